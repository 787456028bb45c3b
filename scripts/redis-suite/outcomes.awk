# Reads what Redis's test runner prints, writes one line per outcome: KIND <tab> TEST <tab> FIRST LINE OF THE REASON.
# Kinds: ok, failed (an assertion), raised (a Tcl error: a plain run would end there), outside (a Tcl error between tests),
# hung (no progress within the runner's limit), ignored (by tag), skipped, end (the runner reached its end).

function flush_failure() {
    if (name == "") return
    printf "%s\t%s\t%s\n", kind, name, reason
    name = ""
}

{ gsub(/\033\[[0-9;]*m/, ""); gsub(/\t/, " "); sub(/\r$/, "") }

/^ +The End$/ { flush_failure(); print "end\t\t"; exit }

/^\[(ok|err|ignore|skip|exception|TIMEOUT|ready)\]:/ || /^\[[0-9]+\/[0-9]+ done\]:/ { flush_failure() }

/^\[ok\]: / {
    sub(/^\[ok\]: /, ""); sub(/ \([0-9]+ ms\)$/, "")
    printf "ok\t%s\t\n", $0; next
}
/^\[skip\]: / { sub(/^\[skip\]: /, ""); printf "skipped\t%s\t\n", $0; next }
/^\[ignore\]: / {
    why = $0; sub(/^\[ignore\]: /, "", why); tag = why
    sub(/: (Tag: .*|Not supported .*|large memory .*)$/, "", why)
    if (why != tag) printf "ignored\t%s\t\n", why
    next
}
/^\[err\]: / {
    sub(/^\[err\]: /, "")
    # A test's failure names its file; what has none was raised between tests.
    if (match($0, / in tests\/.*\.tcl$/)) { kind = "failed"; name = substr($0, 1, RSTART - 1); reason = "" }
    else { kind = "outside"; name = "(outside any test)"; reason = $0 }
    next
}
/^\[exception\]: / {
    kind = "outside"; name = "(outside any test)"; reason = $0
    sub(/^\[exception\]: Executing test client: /, "", reason); next
}
/^\[TIMEOUT\]: / { timed_out = 1; next }
timed_out && / => \(IN PROGRESS\) / {
    sub(/^.* => \(IN PROGRESS\) /, "")
    printf "hung\t%s\tno progress within the limit\n", $0; next
}

# Details of a failure: the message, then for a Tcl error its text once more with the stack.
name != "" && /^    while executing$/ {
    if (kind == "failed") kind = "raised"
    if (previous != "") reason = previous
    next
}
name != "" && reason == "" { reason = $0 }
{ previous = $0 }

END { flush_failure() }
