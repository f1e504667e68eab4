//! The program that decides: by architecture, by a binary search of the number, then by arguments.
//! Not what is decided: that is `rules`.

use super::emit::{Code, Label, Test};
use super::rules::{Answer, Decision, FOREIGN, Profile, Ranges};
use super::tree::{Branch, Compare, Node, Word};
use crate::plan::seccomp_arch::Arch;
use crate::sys::seccomp::{ARCH_OFFSET, ARGUMENTS_OFFSET, BpfProgram, LONGEST, NUMBER_OFFSET};

/// A program that is longer before its jumps are known is not finished.
const BEYOND: usize = 2 * LONGEST;

/// The program of a profile; `Err` has its length if the kernel doesn't take programs of it.
pub(super) fn assemble(profile: &Profile, ranges: &[(&Arch, Ranges)]) -> Result<BpfProgram, usize> {
    let mut code = Code::default();
    let mut start = code.answer(FOREIGN);
    // The machine's own architecture, which is the first, is asked for first.
    for (arch, ranges) in ranges.iter().rev() {
        let mut writer = Writer {
            code,
            default: profile.default,
            big_endian: arch.big_endian,
            levels: Vec::new(),
        };
        let search = writer.search(ranges);
        code = writer.code;
        let Some(search) = search.filter(|_| code.len() <= BEYOND) else {
            return Err(code.len());
        };
        let numbers = code.load(NUMBER_OFFSET, search);
        start = code.branch(Test::Equal, arch.audit, numbers, start);
    }
    let start = code.load(ARCH_OFFSET, start);
    let program = code.finish(start);
    if program.len() > LONGEST {
        Err(program.len())
    } else {
        Ok(program)
    }
}

struct Writer<'a> {
    code: Code,
    default: Answer,
    big_endian: bool,
    /// What was written for a level, by what comes after it; calls often share theirs.
    levels: Vec<(&'a [Node], Label, Label)>,
}

impl<'a> Writer<'a> {
    /// Finds the range of the number in the accumulator. `None`: it grew beyond all bounds.
    fn search(&mut self, ranges: &'a [(u32, Decision)]) -> Option<Label> {
        if self.code.len() > BEYOND {
            return None;
        }
        let (low, high) = ranges.split_at(ranges.len() / 2);
        match (low, high) {
            (_, [(first, _), ..]) if !low.is_empty() => {
                let high = self.search(high)?;
                let low = self.search(low)?;
                Some(self.code.branch(Test::AtLeast, *first, high, low))
            }
            (_, [(_, Decision::Always(answer)), ..]) => Some(self.code.answer(*answer)),
            (_, [(_, Decision::ByArguments(tree)), ..]) => {
                let default = self.code.answer(self.default);
                let rest = tree.cut.iter().rev();
                let rest = rest.fold(default, |next, rule| self.level(rule, next));
                Some(self.level(&tree.level, rest))
            }
            _ => None,
        }
    }

    /// Asks the nodes of a level, one after the other, and goes on at `next` if none has an answer.
    fn level(&mut self, nodes: &'a [Node], next: Label) -> Label {
        let known = self.levels.iter();
        let mut known = known.filter(|(level, after, _)| *after == next && *level == nodes);
        if let Some((.., label)) = known.next() {
            return *label;
        }
        let mut label = next;
        // Where the next node's comparison is that expects its word in the accumulator, and that word.
        let mut loaded: Option<(Label, &Node)> = None;
        for node in nodes.iter().rev() {
            if self.code.len() > BEYOND {
                break;
            }
            let shared = loaded.filter(|(_, later)| node.has_word_of(later) && node.is_leaf());
            if let (None, Some((compared, later))) = (shared, loaded) {
                label = self.load(later, compared);
            }
            let yes = self.branch(&node.yes, label);
            let no = self.branch(&node.no, label);
            let straight = |branch: &Branch, label| match (branch, shared) {
                (Branch::Next, Some((compared, _))) => compared,
                _ => label,
            };
            let (yes, no) = (straight(&node.yes, yes), straight(&node.no, no));
            if node.mask == 0 {
                // Nothing is equal to nothing.
                (label, loaded) = (yes, None);
                continue;
            }
            let test = match node.compare {
                Compare::Equal => Test::Equal,
                Compare::Greater => Test::Greater,
                Compare::AtLeast => Test::AtLeast,
            };
            loaded = Some((self.code.branch(test, node.value, yes, no), node));
        }
        if let Some((compared, node)) = loaded {
            label = self.load(node, compared);
        }
        self.levels.push((nodes, next, label));
        label
    }

    fn branch(&mut self, branch: &'a Branch, next: Label) -> Label {
        match branch {
            Branch::Next => next,
            Branch::Answer(answer) => self.code.answer(*answer),
            Branch::Level(nodes) => self.level(nodes, next),
        }
    }

    /// Loads the word of a node.
    fn load(&mut self, node: &Node, next: Label) -> Label {
        let Word { argument, high } = node.word;
        let second = if high == self.big_endian { 0 } else { 4 };
        let next = if node.mask == u32::MAX {
            next
        } else {
            self.code.mask(node.mask, next)
        };
        self.code
            .load(ARGUMENTS_OFFSET + 8 * argument + second, next)
    }
}
