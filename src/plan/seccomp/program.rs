//! Writes the program: it distinguishes architectures, then finds the call number by binary search,
//! then compares arguments.
//! `rules` decides what the program returns.

use super::emit::{Code, Label, Test};
use super::rules::{Answer, Decision, FOREIGN, Profile, Ranges};
use super::tree::{Branch, Compare, Node, Word};
use crate::plan::seccomp_arch::Arch;
use crate::sys::seccomp::{ARCH_OFFSET, ARGUMENTS_OFFSET, BpfProgram, LONGEST, NUMBER_OFFSET};

/// Writing stops when the program has more instructions than this.
const BEYOND: usize = 2 * LONGEST;

/// Writes the program of a profile. If the program is too long for the kernel, `Err` is its length.
pub(super) fn assemble(profile: &Profile, ranges: &[(&Arch, Ranges)]) -> Result<BpfProgram, usize> {
    let mut code = Code::default();
    let mut start = code.answer(FOREIGN);
    // The first architecture of the list is the machine's own. Since programs are written
    // backwards, it is compared first.
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
    /// The levels that are already written, each with the label that follows it and its own label.
    /// Calls often share a level.
    levels: Vec<(&'a [Node], Label, Label)>,
}

impl<'a> Writer<'a> {
    /// Writes the search for the range that contains the number in the accumulator. Returns `None`
    /// if the program is too long.
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

    /// Writes the comparisons of a level in order. The program continues at `next` if none of them
    /// decides.
    fn level(&mut self, nodes: &'a [Node], next: Label) -> Label {
        let known = self.levels.iter();
        let mut known = known.filter(|(level, after, _)| *after == next && *level == nodes);
        if let Some((.., label)) = known.next() {
            return *label;
        }
        let mut label = next;
        // The label of the following node's comparison, which expects that node's word in the
        // accumulator, and the node itself.
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
                // With an empty mask, both sides are 0 and therefore equal.
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

    /// Writes the load of the word that a node compares.
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
