//! Generates the files that packages install: manual pages and completions. Their content comes
//! from the table of commands.
//! `manual` has the texts of topics.

use clap_mangen::Man;
use clap_mangen::roff::{Inline, Roff, bold, italic, roman};

use super::{commands, completions, full_grammar};
use crate::manual::{self, Block, TOPICS, Topic};

/// The hidden command that prints these files.
pub(super) const COMMAND: &str = "generate";

/// Returns the text of a file. Without a file, returns the names of all files, which are paths
/// below PREFIX/share.
pub(super) fn generate(file: Option<&str>) -> Result<String, String> {
    let Some(file) = file else {
        return Ok(files().map(|file| file + "\n").collect());
    };
    let page = |name: &str| -> Option<String> {
        if name == "orlop.1" {
            return Some(main_page());
        }
        let (name, section) = name.strip_prefix("orlop-")?.rsplit_once('.')?;
        if section == "1" {
            return command_page(name);
        }
        let mut topics = TOPICS.iter();
        let topic = topics.find(|topic| topic.name == name)?;
        (topic.section.to_string() == section).then(|| topic_page(topic))
    };
    let page = file
        .strip_prefix("man/man")
        .and_then(|rest| page(rest.split_once('/')?.1));
    page.or_else(|| completions::script(file))
        .ok_or_else(|| format!("{COMMAND} {file:?}: no such file, see `orlop {COMMAND}`"))
}

/// Returns the names of all files.
fn files() -> impl Iterator<Item = String> {
    let commands = commands::command_names().map(|name| format!("man/man1/orlop-{name}.1"));
    let topics = TOPICS.iter().map(|topic| {
        let Topic { name, section, .. } = topic;
        format!("man/man{section}/orlop-{name}.{section}")
    });
    std::iter::once("man/man1/orlop.1".to_owned())
        .chain(commands)
        .chain(topics)
        .chain(completions::FILES.map(String::from))
}

/// Returns the page of the program, with the global flags and the list of commands.
fn main_page() -> String {
    let mut grammar = full_grammar().bin_name("orlop");
    grammar.build();
    let man = Man::new(grammar);
    let mut text = title("orlop", 1);
    let mut add = |section: Section| text.push_str(&written(|out| section(&man, out)));
    add(Man::render_name_section);
    add(Man::render_synopsis_section);
    add(Man::render_options_section);
    add(Man::render_subcommands_section);
    let mut roff = Roff::new();
    put(&mut roff, &manual::overview());
    let topics = TOPICS
        .iter()
        .map(|topic| (format!("orlop-{}", topic.name), topic.section));
    see_also(&mut roff, topics);
    text + &rendered(&roff)
}

type Section = fn(&Man, &mut dyn std::io::Write) -> std::io::Result<()>;

/// Returns the page of a command, or `None` if there is no such command.
fn command_page(name: &str) -> Option<String> {
    let row = commands::find_command(name.as_ref())?;
    let page = format!("orlop-{name}");
    let mut text = title(&page, 1);
    let grammar = row.grammar().bin_name(format!("orlop {name}"));
    let man = Man::new(grammar.display_name(page));
    let mut add = |section: Section| text.push_str(&written(|out| section(&man, out)));
    add(Man::render_name_section);
    add(Man::render_synopsis_section);
    let mut roff = Roff::new();
    roff.control("SH", ["DESCRIPTION"]);
    let (about, later) = split(manual::of_command(name));
    put(&mut roff, &about);
    text.push_str(&rendered(&roff));
    text.push_str(&written(|out| man.render_options_section(out)));
    let mut roff = Roff::new();
    roff.control("PP", []);
    roff.text(inline("The global options of `orlop`(1) are accepted too."));
    put(&mut roff, &later);
    see_also(&mut roff, [("orlop".to_owned(), 1)].into_iter());
    Some(text + &rendered(&roff))
}

/// Splits a text at its first heading.
fn split(blocks: Vec<Block>) -> (Vec<Block>, Vec<Block>) {
    let is_heading = |block: &Block| matches!(block, Block::Heading(_));
    let at = blocks.iter().position(is_heading).unwrap_or(blocks.len());
    let mut before = blocks;
    let after = before.split_off(at);
    (before, after)
}

fn topic_page(topic: &Topic) -> String {
    let page = format!("orlop-{}", topic.name);
    let text = title(&page, topic.section);
    let mut roff = Roff::new();
    roff.control("SH", ["NAME"]);
    roff.text([roman(format!("{page} - {}", topic.about))]);
    roff.control("SH", ["DESCRIPTION"]);
    put(&mut roff, &topic.blocks());
    see_also(&mut roff, [("orlop".to_owned(), 1)].into_iter());
    text + &rendered(&roff)
}

/// Returns the first line of a page. It has no date, so that the same source makes the same pages.
fn title(page: &str, section: u8) -> String {
    let version = env!("CARGO_PKG_VERSION");
    let page = page.to_uppercase();
    format!(".TH {page} {section} \"\" \"orlop {version}\" \"orlop manual\"\n")
}

/// Adds the blocks after a heading.
fn put(roff: &mut Roff, blocks: &[Block]) {
    let mut is_first = true;
    for block in blocks {
        put_block(roff, block, is_first);
        is_first = matches!(block, Block::Heading(_));
    }
}

fn put_block(roff: &mut Roff, block: &Block, is_first: bool) {
    match block {
        Block::Heading(heading) => {
            roff.control("SH", [heading.to_uppercase().as_str()]);
        }
        Block::Paragraph(text) => {
            if !is_first {
                roff.control("PP", []);
            }
            roff.text(inline(text));
        }
        Block::Item { term, text } => {
            roff.control("TP", []);
            roff.text([bold(term.replace('`', ""))]);
            roff.text(inline(text));
        }
        Block::Example(lines) => {
            if !is_first {
                roff.control("PP", []);
            }
            roff.control("RS", ["4"]);
            roff.control("nf", []);
            for line in lines.lines() {
                roff.text([roman(line)]);
            }
            roff.control("fi", []);
            roff.control("RE", []);
        }
    }
}

/// Converts a text to roff. Words between backticks become bold.
fn inline(text: &str) -> Vec<Inline> {
    let parts = text.split('`').enumerate();
    parts
        .filter(|(_, part)| !part.is_empty())
        .map(|(at, part)| if at % 2 == 1 { bold(part) } else { roman(part) })
        .collect()
}

fn see_also(roff: &mut Roff, pages: impl Iterator<Item = (String, u8)>) {
    roff.control("SH", ["SEE ALSO"]);
    let mut words = Vec::new();
    for (name, section) in pages {
        if !words.is_empty() {
            words.push(roman(", "));
        }
        words.push(italic(name));
        words.push(roman(format!("({section})")));
    }
    roff.text(words);
}

fn rendered(roff: &Roff) -> String {
    written(|out| roff.to_writer(out))
}

/// Returns what a function writes. Writing to memory never fails.
fn written(write: impl FnOnce(&mut dyn std::io::Write) -> std::io::Result<()>) -> String {
    let mut bytes = Vec::new();
    match write(&mut bytes) {
        Ok(()) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(_) => String::new(),
    }
}
