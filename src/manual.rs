//! The manual: its topics, and the markup of their texts.
//! `cli::pages` turns them into manual pages. The flags come from the table of commands.
//!
//! A text has headings (`# `), items (`- term :: text`), examples (four spaces) and paragraphs.
//! Backticks enclose words that the reader can type.

mod annotations;
mod commands;
mod config;
mod errors;

/// The width of the text on a terminal.
const COLUMNS: usize = 80;
/// The indent of the texts of items and of examples.
const INDENT: usize = 6;

/// One topic: `orlop help NAME`, and the page orlop-NAME.
#[derive(Debug)]
pub(crate) struct Topic {
    pub(crate) name: &'static str,
    /// The section of the manual.
    pub(crate) section: u8,
    pub(crate) about: &'static str,
    text: fn() -> String,
}

/// All topics, in the order of help.
pub(crate) const TOPICS: &[Topic] = &[
    Topic {
        name: "config",
        section: 5,
        about: "what becomes of each part of config.json",
        text: config::text,
    },
    Topic {
        name: "errors",
        section: 7,
        about: "errors, warnings, the log and exit codes",
        text: errors::text,
    },
    Topic {
        name: "annotations",
        section: 7,
        about: "the annotations that have an effect",
        text: annotations::text,
    },
    Topic {
        name: "cgroups",
        section: 7,
        about: "how containers are limited",
        text: || include_str!("manual/cgroups.txt").into(),
    },
    Topic {
        name: "rootless",
        section: 7,
        about: "containers of users without privileges",
        text: || include_str!("manual/rootless.txt").into(),
    },
];

impl Topic {
    /// Returns the parts of the topic's text.
    pub(crate) fn blocks(&self) -> Vec<Block> {
        parse(&(self.text)())
    }

    /// Renders the text for a terminal.
    pub(crate) fn plain(&self) -> String {
        let title = format!("orlop: {}\n\n", self.about);
        self.blocks()
            .iter()
            .fold(title, |text, block| text + &block.plain())
    }
}

/// Returns what the manual says about a command besides its flags.
pub(crate) fn of_command(name: &str) -> Vec<Block> {
    parse(commands::text(name).unwrap_or_default())
}

/// Returns the text of the first manual page besides flags and commands.
pub(crate) fn overview() -> Vec<Block> {
    parse(include_str!("manual/overview.txt"))
}

/// A part of a text.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Block {
    Heading(String),
    Paragraph(String),
    Item { term: String, text: String },
    Example(String),
}

impl Block {
    fn plain(&self) -> String {
        let bare = |text: &str| text.replace('`', "");
        match self {
            Block::Heading(heading) => format!("{}\n\n", heading.to_uppercase()),
            Block::Paragraph(text) => wrap(&bare(text), 0) + "\n",
            Block::Item { term, text } => {
                wrap(&bare(term), INDENT / 3) + &wrap(&bare(text), INDENT) + "\n"
            }
            Block::Example(lines) => {
                let indented = lines.lines().map(|line| format!("{:INDENT$}{line}\n", ""));
                indented.collect::<String>() + "\n"
            }
        }
    }
}

/// Breaks a text into lines.
fn wrap(text: &str, indent: usize) -> String {
    let mut lines = String::new();
    let mut width = 0;
    for word in text.split_whitespace() {
        let length = word.chars().count();
        if width > indent && width + 1 + length <= COLUMNS {
            lines.push(' ');
            width += 1 + length;
        } else {
            if width > 0 {
                lines.push('\n');
            }
            lines.push_str(&" ".repeat(indent));
            width = indent + length;
        }
        lines.push_str(word);
    }
    lines.push('\n');
    lines
}

/// Parses the markup of a text.
fn parse(text: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut joins = false;
    for line in text.lines() {
        let bare = line.trim();
        let item = bare
            .strip_prefix("- ")
            .and_then(|item| item.split_once(" :: "));
        if let Some(code) = line.strip_prefix("    ") {
            match blocks.last_mut() {
                Some(Block::Example(lines)) if joins => {
                    lines.push('\n');
                    lines.push_str(code);
                }
                _ => blocks.push(Block::Example(code.into())),
            }
        } else if let Some(heading) = bare.strip_prefix("# ") {
            blocks.push(Block::Heading(heading.into()));
        } else if let Some((term, text)) = item {
            let (term, text) = (term.into(), text.into());
            blocks.push(Block::Item { term, text });
        } else if !bare.is_empty() {
            match blocks.last_mut() {
                Some(Block::Paragraph(text) | Block::Item { text, .. }) if joins => {
                    text.push(' ');
                    text.push_str(bare);
                }
                _ => blocks.push(Block::Paragraph(bare.into())),
            }
        }
        joins = !bare.is_empty();
    }
    blocks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_read_and_wrapped() {
        let blocks = parse("# Head\none\ntwo\n\n- `a` b :: c\nd\n- e :: f\n\n    x\n      y\n");
        let item = |term: &str, text: &str| Block::Item {
            term: term.into(),
            text: text.into(),
        };
        assert_eq!(
            blocks,
            [
                Block::Heading("Head".into()),
                Block::Paragraph("one two".into()),
                item("`a` b", "c d"),
                item("e", "f"),
                Block::Example("x\n  y".into()),
            ]
        );
        let plain: String = blocks.iter().map(Block::plain).collect();
        assert_eq!(
            plain,
            "HEAD\n\none two\n\n  a b\n      c d\n\n  e\n      f\n\n      x\n        y\n\n"
        );
        assert!(
            wrap(&"word ".repeat(99), INDENT)
                .lines()
                .all(|line| { line.starts_with("      word") && line.len() <= COLUMNS })
        );
    }
}
