#!/usr/bin/env python3
"""How long functions and files are, how much is asserted and documented, and which files import each other in circles.

    scripts/shape.py        prints the figures; exit code 1 if one is past its bound

Production code only: files of tests and `#[cfg(test)]` items are left out. It relies on rustfmt: what begins at an indentation ends with a
brace at the same one. A function is counted from the line of its `fn` to its brace. A face (`mod.rs`, `lib.rs`) is no part of a circle.
"""

import os
import re
import sys

CRATES = ["crdt", "gossip", "node", "region-sim"]
# Those whose rules are worth stating beside the code that relies on them.
ASSERTING = {"crdt": "crdt/src", "gossip": "gossip/src", "core": "node/src/core"}

FUNCTION_P99_MAX = 42
FUNCTION_MAX = 70
FILE_MAX = 600
ASSERTIONS_MIN = 5.0
CIRCLES_MAX = {"crdt": 0, "gossip": 0, "node": 0, "region-sim": 4}

FUNCTION = re.compile(r"^(\s*)(?:pub(?:\([^)]*\))? )?(?:default )?(?:const )?(?:async )?(?:unsafe )?fn \w+")
ITEM = re.compile(r"^\s*pub (?:const |async |unsafe )*(?:fn|struct|enum|trait|static|type|union|const) (\w+)")
ASSERT = re.compile(r"\b(?:debug_)?assert(?:_eq|_ne)?!")
TEST_FILE = re.compile(r"^(?:tests?|.*_tests?|tests_.*)\.rs$")
TEST_MODULE = re.compile(r"#\[cfg\(test\)\]\n(?:#\[[^\n]*\n)*mod (\w+);")


def sources(folder):
    """The files of production code below a folder."""
    found, tests = [], set()
    for here, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if name != "tests")
        for name in sorted(files):
            if not name.endswith(".rs"):
                continue
            path = os.path.join(here, name)
            with open(path, encoding="utf-8") as file:
                modules = TEST_MODULE.findall(file.read())
            below = here if name in ("mod.rs", "lib.rs", "main.rs") else path[:-3]
            tests.update(os.path.join(below, f"{module}.rs") for module in modules)
            if not TEST_FILE.match(name):
                found.append(path)
    return [path for path in found if path not in tests]


def end_of(lines, at, indent):
    """The line with the brace that ends what begins at a line; the line itself if it has no body."""
    for number in range(at, len(lines)):
        text = lines[number].rstrip()
        if text == indent + "}" or (number == at and text.endswith(("}", ";"))):
            return number
        if number > at and text == indent + ");":
            return number
    return at


def without_tests(lines):
    """The lines, those of test items blank, and how many are left."""
    kept, number, left = list(lines), 0, len(lines)
    while number < len(lines):
        match = re.match(r"^(\s*)#\[cfg\(test\)\]", lines[number])
        if match:
            item = number + 1
            while lines[item].lstrip().startswith(("#[", "///")):
                item += 1
            last = end_of(lines, item, match.group(1))
            kept[number : last + 1] = [""] * (last + 1 - number)
            left -= last + 1 - number
            number = last
        number += 1
    return kept, left


def functions(path, lines):
    for number, line in enumerate(lines):
        match = FUNCTION.match(line)
        if not match:
            continue
        signature = number
        while not lines[signature].rstrip().endswith(("{", "}", ";")):
            signature += 1
        if not lines[signature].rstrip().endswith(";"):
            last = end_of(lines, signature, match.group(1))
            yield last + 1 - number, f"{path}:{number + 1}"


def undocumented(path, lines):
    for number, line in enumerate(lines):
        match = ITEM.match(line)
        above = number - 1
        while above >= 0 and re.match(r"\s*(?:#\[|\)\]|// )", lines[above]):
            while lines[above].strip() == ")]" or not lines[above].lstrip().startswith(("#", "//")):
                above -= 1
            above -= 1
        if match and not lines[above].lstrip().startswith("///"):
            yield f"{path}:{number + 1} {match.group(1)}"


def leaves(prefix, tree):
    """The paths that one `use` names."""
    head, brace, rest = tree.partition("{")
    path = prefix + [part.strip() for part in head.split("::") if part.strip()]
    if not brace:
        yield [part.split(" as ")[0] for part in path]
        return
    depth, part = 0, ""
    for letter in rest[: rest.rfind("}")] + ",":
        if letter == "," and depth == 0:
            if part.strip():
                yield from leaves(path, part)
            part = ""
            continue
        depth += (letter == "{") - (letter == "}")
        part += letter


def imports(module, text, modules):
    """The modules that a file imports from."""
    code = re.sub(r"//[^\n]*", "", text)
    for use in re.finditer(r"^\s*(?:pub(?:\([^)]*\))? )?use ([^;]+);", code, re.M):
        for path in leaves([], use.group(1)):
            if path[0] not in ("crate", "super", "self"):
                continue
            target = list(module)
            while path and path[0] in ("crate", "super", "self"):
                step = path.pop(0)
                target = [] if step == "crate" else target[:-1] if step == "super" else target
            target = tuple(target + path)
            while target and target not in modules:
                target = target[:-1]
            if target and target != module:
                yield target


def circles(root, files):
    """The sets of files that can each be reached from the others (Tarjan, 1972)."""
    modules = {}
    for path in files:
        parts = os.path.relpath(path, root)[:-3].split(os.sep)
        if parts[-1] not in ("mod", "lib", "main"):
            modules[tuple(parts)] = path
    edges = {}
    for module, path in modules.items():
        with open(path, encoding="utf-8") as file:
            lines, _ = without_tests(file.read().split("\n"))
        edges[module] = set(imports(module, "\n".join(lines), modules))
    order, low, stack, found = {}, {}, [], []

    def visit(module):
        order[module] = low[module] = len(order)
        stack.append(module)
        for other in sorted(edges[module]):
            if other not in order:
                visit(other)
            if other in stack:
                low[module] = min(low[module], low[other])
        if low[module] == order[module]:
            circle = []
            while not circle or circle[-1] != module:
                circle.append(stack.pop())
            if len(circle) > 1:
                found.append(sorted("/".join(part) + ".rs" for part in circle))

    for module in sorted(edges):
        if module not in order:
            visit(module)
    return found


def main():
    os.chdir(os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
    sys.setrecursionlimit(10_000)
    lengths, files, bare, broken = [], [], [], []
    asserted = {name: [0, 0] for name in ASSERTING}
    for crate in CRATES:
        for path in sources(f"{crate}/src"):
            with open(path, encoding="utf-8") as file:
                lines, count = without_tests(file.read().rstrip("\n").split("\n"))
            files.append((count, path))
            lengths.extend(functions(path, lines))
            bare.extend(undocumented(path, lines))
            for name, folder in ASSERTING.items():
                if path.startswith(folder + os.sep):
                    asserted[name][0] += len(ASSERT.findall("\n".join(lines)))
                    asserted[name][1] += count

    def bound(what, value, is_met, offenders=()):
        print(f"{what}: {value}" + ("" if is_met else "  TOO FAR"))
        if not is_met:
            broken.append(what)
            for offender in offenders:
                print(f"    {offender}")

    lengths.sort(reverse=True)
    p99 = lengths[len(lengths) // 100][0]
    longer = [f"{count} lines {place}" for count, place in lengths if count > FUNCTION_P99_MAX]
    bound("functions, p99 of lines", p99, p99 <= FUNCTION_P99_MAX, longer)
    bound("functions, longest", lengths[0][0], lengths[0][0] <= FUNCTION_MAX, longer[:3])
    longest = [f"{count} lines {path}" for count, path in sorted(files, reverse=True) if count > FILE_MAX]
    bound("files, longest", max(files)[0], not longest, longest)
    for name, (count, lines) in asserted.items():
        rate = 1000 * count / lines
        bound(f"assertions per 1,000 lines, {name}", f"{rate:.1f}", rate >= ASSERTIONS_MIN)
    bound("undocumented public items", len(bare), not bare, bare)
    for crate in CRATES:
        found = circles(f"{crate}/src", sources(f"{crate}/src"))
        names = [", ".join(circle) for circle in found]
        bound(f"circles of files, {crate}", len(found), len(found) <= CIRCLES_MAX[crate], names)
    if broken:
        sys.exit(f"shape: past its bound: {'; '.join(broken)}")
    print("shape: within its bounds")


if __name__ == "__main__":
    main()
