//! Where in the text a key is, and which key a place in the text belongs to.

use std::ops::Range;

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{Fault, Position, Reason, faults::Faults};

/// The text of a config and what could be understood of it.
pub struct Source<'a> {
    text: &'a str,
    table: Spanned<DeTable<'a>>,
}

impl<'a> Source<'a> {
    /// Understands as much of `text` as is TOML: a broken text has keys to name, too.
    pub fn new(text: &'a str) -> Self {
        let (table, _) = DeTable::parse_recoverable(text);
        Self { text, table }
    }

    /// What toml has against the text.
    pub fn fault_of(&self, error: &toml::de::Error) -> Fault {
        let span = error.span();
        let key = span.clone().and_then(|span| self.key_at(span.start));
        let key = key.unwrap_or_default();
        let reason = match span.clone() {
            Some(span) if error.message() == "duplicate key" => self.duplicate(&key, span),
            _ => Reason::Malformed(error.message().replace('\n', ", ")),
        };
        Fault {
            position: span.map(|span| self.position(span.start)),
            key,
            reason,
        }
    }

    /// The faults of a parsed config, each at its place, in the order of the text.
    pub fn place(&self, faults: Faults) -> Vec<Fault> {
        let mut placed: Vec<_> = faults
            .into_iter()
            .map(|(key, reason)| Fault {
                position: self.locate(&key),
                key,
                reason,
            })
            .collect();
        placed.sort_by_key(|fault| fault.position);
        placed
    }

    fn duplicate(&self, key: &str, span: Range<usize>) -> Reason {
        let name = self.text.get(span).unwrap_or_default();
        let name = name.trim_matches(|c| c == '"' || c == '\'');
        if key.starts_with("peers.dial.") {
            return Reason::DuplicateNode {
                name: name.to_owned(),
            };
        }
        Reason::Duplicate
    }

    /// Where `key` is, or the nearest section around it that is in the text: a default has no place of its own.
    fn locate(&self, key: &str) -> Option<Position> {
        let mut table = self.table.get_ref();
        let mut found = None;
        for part in key.split('.') {
            let Some((name, value)) = table.iter().find(|(name, _)| name.get_ref() == part) else {
                break;
            };
            found = Some(name.span().start);
            match value.get_ref() {
                DeValue::Table(inner) => table = inner,
                _ => break,
            }
        }
        found.map(|offset| self.position(offset))
    }

    /// The dotted key whose name or value covers `offset`; for the second of two equal keys, which toml leaves out of
    /// the table, the section around it and its own name.
    fn key_at(&self, offset: usize) -> Option<String> {
        key_in(self.table.get_ref(), offset).or_else(|| self.key_on_line(offset))
    }

    fn key_on_line(&self, offset: usize) -> Option<String> {
        let before = self.text.get(..offset)?;
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let line = self.text[line_start..].lines().next()?.trim();
        if let Some(section) = section(line) {
            return Some(section.to_owned());
        }
        let (name, _) = line.split_once('=')?;
        let name = name
            .trim()
            .trim_matches(|c| c == '"' || c == '\'')
            .to_owned();
        match before.lines().rev().find_map(section) {
            Some(section) => Some(format!("{section}.{name}")),
            None => Some(name),
        }
    }

    fn position(&self, offset: usize) -> Position {
        let before = self.text.get(..offset).unwrap_or(self.text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        Position {
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
        }
    }
}

/// The name in a line `[name]`.
fn section(line: &str) -> Option<&str> {
    let rest = line.trim().strip_prefix('[')?;
    rest.split_once(']').map(|(name, _)| name.trim())
}

fn key_in(table: &DeTable<'_>, offset: usize) -> Option<String> {
    // A section's own span is its header only, so its keys are asked first.
    let inside = table.iter().find_map(|(name, value)| {
        let DeValue::Table(inner) = value.get_ref() else {
            return None;
        };
        key_in(inner, offset).map(|key| format!("{}.{key}", name.get_ref()))
    });
    inside.or_else(|| {
        let covers = |span: Range<usize>| span.contains(&offset);
        let mut entries = table.iter();
        let (name, _) =
            entries.find(|(name, value)| covers(name.span()) || covers(value.span()))?;
        Some(name.get_ref().to_string())
    })
}
