//! Writes the program: it distinguishes architectures, then finds the call number by binary search,
//! then compares arguments.
//! `rules` decides what is returned.

use super::emit::{Code, Label, Test};
use super::rules::{Answer, Decision, FOREIGN, Profile, Ranges};
use super::tree::{Branch, Compare, Node, Word};
use crate::plan::seccomp_arch::Arch;
use crate::sys::seccomp::{ARCH_OFFSET, ARGUMENTS_OFFSET, BpfProgram, LONGEST, NUMBER_OFFSET};

/// Writing stops when the program has more instructions than this.
const BEYOND: usize = 2 * LONGEST;

/// Writes the program of a profile. `Err` is its length if it is too long for the kernel.
pub(super) fn assemble(profile: &Profile, ranges: &[(&Arch, Ranges)]) -> Result<BpfProgram, usize> {
    let mut code = Code::default();
    let mut start = code.answer(FOREIGN);
    // Programs are written backwards, so the machine's own architecture, the first of the list, is
    // compared first.
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
    /// The levels that are written already, each with what follows it; calls often share a level.
    levels: Vec<(&'a [Node], Label, Label)>,
}

impl<'a> Writer<'a> {
    /// Finds the range that contains the number in the accumulator. `None`: the program is too
    /// long.
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

    /// Makes the comparisons of a level in order, and continues at `next` if none decides.
    fn level(&mut self, nodes: &'a [Node], next: Label) -> Label {
        let known = self.levels.iter();
        let mut known = known.filter(|(level, after, _)| *after == next && *level == nodes);
        if let Some((.., label)) = known.next() {
            return *label;
        }
        let mut label = next;
        // The comparison of the next node, which expects its word in the accumulator; and that
        // node.
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
                // With an empty mask, both sides are 0 and equal.
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

    /// Loads the word that a node compares.
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
