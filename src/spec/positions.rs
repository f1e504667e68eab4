//! Finds the lines and columns of values in the text of config.json by their JSON pointers.
//! `json` has already parsed the text.

use std::collections::{BTreeMap, BTreeSet};

/// A position in a text. Line and column count from 1. The column counts characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Position {
    pub(crate) line: usize,
    pub(crate) column: usize,
}

/// Values at a greater depth have no position. The parser of the text refuses them.
const DEEPEST: usize = 128;

/// Finds the positions of these values in one pass. The position of a member is that of its name. A
/// missing value has the position of the nearest object around it.
pub(crate) fn find<'a>(
    text: &str,
    pointers: impl Iterator<Item = &'a str> + Clone,
) -> impl Fn(&str) -> Option<Position> {
    let mut wanted = BTreeSet::new();
    for pointer in pointers {
        let ends = pointer.match_indices('/').map(|(at, _)| at);
        let ends = ends.chain([pointer.len()]);
        wanted.extend(ends.filter_map(|end| pointer.get(..end)));
    }
    let mut scan = Scan {
        text,
        at: 0,
        pointer: String::new(),
        wanted,
        found: BTreeMap::new(),
    };
    scan.value(0);
    let offsets = scan.found;
    let positions = positions(text, &offsets);
    move |pointer: &str| {
        let mut pointer = pointer;
        loop {
            if let Some(position) = positions.get(pointer) {
                return Some(*position);
            }
            pointer = pointer.rsplit_once('/')?.0;
        }
    }
}

/// Converts offsets to positions in one pass.
fn positions(text: &str, offsets: &BTreeMap<String, usize>) -> BTreeMap<String, Position> {
    let mut sorted: Vec<(&String, &usize)> = offsets.iter().collect();
    sorted.sort_by_key(|(_, offset)| **offset);
    let (mut line, mut line_start, mut at) = (1, 0, 0);
    let mut positions = BTreeMap::new();
    for (pointer, &offset) in sorted {
        for (newline, _) in text.get(at..offset).unwrap_or("").match_indices('\n') {
            line += 1;
            line_start = at + newline + 1;
        }
        at = offset;
        let before = text.get(line_start..offset).unwrap_or("");
        let column = before.chars().count() + 1;
        positions.insert(pointer.clone(), Position { line, column });
    }
    positions
}

struct Scan<'a> {
    text: &'a str,
    at: usize,
    /// The pointer to the current value.
    pointer: String,
    wanted: BTreeSet<&'a str>,
    /// The offsets of the wanted values, by pointer.
    found: BTreeMap<String, usize>,
}

impl Scan<'_> {
    fn peek(&mut self) -> Option<u8> {
        let bytes = self.text.as_bytes();
        while bytes.get(self.at)?.is_ascii_whitespace() {
            self.at += 1;
        }
        bytes.get(self.at).copied()
    }

    fn note(&mut self, offset: usize) {
        if self.wanted.contains(self.pointer.as_str()) {
            self.found.entry(self.pointer.clone()).or_insert(offset);
        }
    }

    /// Skips a value. Returns `None` if the text ends, is nested too deeply, or isn't JSON.
    fn value(&mut self, depth: usize) -> Option<()> {
        let first = self.peek()?;
        self.note(self.at);
        match first {
            b'{' | b'[' if depth >= DEEPEST => None,
            b'{' => self.members(depth),
            b'[' => self.items(depth),
            b'"' => self.string().map(drop),
            _ => {
                let rest = self.text.get(self.at..)?;
                let ends = |c: char| c.is_ascii_whitespace() || ",]}".contains(c);
                let length = rest.find(ends).unwrap_or(rest.len());
                self.at += length;
                (length > 0).then_some(())
            }
        }
    }

    fn members(&mut self, depth: usize) -> Option<()> {
        self.at += 1;
        let length = self.pointer.len();
        while self.peek()? != b'}' {
            let offset = self.at;
            let name: String = serde_json::from_str(self.string()?).ok()?;
            self.pointer.push('/');
            self.pointer
                .push_str(&name.replace('~', "~0").replace('/', "~1"));
            self.note(offset);
            if self.peek()? != b':' {
                return None;
            }
            self.at += 1;
            self.value(depth + 1)?;
            self.pointer.truncate(length);
            if self.peek()? == b',' {
                self.at += 1;
            }
        }
        self.at += 1;
        Some(())
    }

    fn items(&mut self, depth: usize) -> Option<()> {
        self.at += 1;
        let length = self.pointer.len();
        let mut index = 0_usize;
        while self.peek()? != b']' {
            self.pointer.push_str(&format!("/{index}"));
            self.value(depth + 1)?;
            self.pointer.truncate(length);
            index += 1;
            if self.peek()? == b',' {
                self.at += 1;
            }
        }
        self.at += 1;
        Some(())
    }

    /// Skips a string, and returns it with its quotes.
    fn string(&mut self) -> Option<&str> {
        let start = self.at;
        let bytes = self.text.as_bytes();
        if bytes.get(start) != Some(&b'"') {
            return None;
        }
        let mut at = start + 1;
        loop {
            match bytes.get(at)? {
                b'\\' => at += 2,
                b'"' => break,
                _ => at += 1,
            }
        }
        self.at = at + 1;
        self.text.get(start..self.at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_found_by_its_pointer_and_a_missing_one_by_what_is_around_it() {
        let text = "{\n  \"a\": [1, {\"b/c\": \"ä\\\"\", \"d\": {}}],\n\t\"e\" : null}";
        let pointers = [
            ("", (1, 1)),
            ("/a", (2, 3)),
            ("/a/0", (2, 9)),
            ("/a/1", (2, 12)),
            ("/a/1/b~1c", (2, 13)),
            ("/a/1/d", (2, 27)),
            ("/a/1/d/none/deeper", (2, 27)),
            ("/a/7", (2, 3)),
            ("/e", (3, 2)),
        ];
        let at = find(text, pointers.iter().map(|(pointer, _)| *pointer));
        for (pointer, (line, column)) in pointers {
            assert_eq!(at(pointer), Some(Position { line, column }), "{pointer}");
        }
    }

    #[test]
    fn text_that_is_no_json_ends_the_search() {
        for text in ["", "{", "{\"a\"", "[1,", "{\"a\\", "{1:2}", "[}"] {
            let at = find(text, ["/a/0"].into_iter());
            at("/a/0");
        }
        let deep = "[".repeat(100_000);
        assert_eq!(
            find(&deep, ["/9"].into_iter())("/9"),
            find(&deep, [""].into_iter())("")
        );
    }
}
