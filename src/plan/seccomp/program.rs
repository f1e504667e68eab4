//! Writes the program. It first distinguishes architectures, then finds the call number by binary
//! search, and then compares arguments.
//! `rules` decides what the program returns.

use super::emit::{Code, JumpTest, Label};
use super::rules::{CallDecision, DecisionRanges, FilterReturn, Profile, RETURN_FOREIGN_ARCH};
use super::tree::{ArgWord, Branch, Node, WordComparison};
use crate::plan::seccomp_arch::Arch;
use crate::sys::seccomp::{ARCH_OFFSET, ARGUMENTS_OFFSET, BpfProgram, LONGEST, NUMBER_OFFSET};

/// Writing stops when the program has more instructions than this.
const WRITE_LIMIT: usize = 2 * LONGEST;

/// Writes the program of a profile. If the program is too long for the kernel, `Err` is its length.
pub(super) fn assemble_program(
    profile: &Profile,
    ranges: &[(&Arch, DecisionRanges)],
) -> Result<BpfProgram, usize> {
    let mut code = Code::default();
    let mut start = code.return_label(RETURN_FOREIGN_ARCH);
    // The first architecture of the list is the machine's own. Since programs are written
    // backwards, it is compared first.
    for (arch, ranges) in ranges.iter().rev() {
        let mut writer = Writer {
            code,
            default: profile.default,
            big_endian: arch.big_endian,
            levels: Vec::new(),
        };
        let search = writer.write_search(ranges);
        code = writer.code;
        let Some(search) = search.filter(|_| code.len() <= WRITE_LIMIT) else {
            return Err(code.len());
        };
        let numbers = code.push_load(NUMBER_OFFSET, search);
        start = code.push_branch(JumpTest::Equal, arch.audit, numbers, start);
    }
    let start = code.push_load(ARCH_OFFSET, start);
    let program = code.into_program(start);
    if program.len() > LONGEST {
        Err(program.len())
    } else {
        Ok(program)
    }
}

struct Writer<'a> {
    code: Code,
    default: FilterReturn,
    big_endian: bool,
    /// The levels that are already written, each with the label that follows it and its own label.
    /// Calls often share a level.
    levels: Vec<(&'a [Node], Label, Label)>,
}

impl<'a> Writer<'a> {
    /// Writes the search for the range that contains the number in the accumulator. Returns `None`
    /// if the program is too long.
    fn write_search(&mut self, ranges: &'a [(u32, CallDecision)]) -> Option<Label> {
        if self.code.len() > WRITE_LIMIT {
            return None;
        }
        let (low, high) = ranges.split_at(ranges.len() / 2);
        match (low, high) {
            (_, [(first, _), ..]) if !low.is_empty() => {
                let high = self.write_search(high)?;
                let low = self.write_search(low)?;
                Some(self.code.push_branch(JumpTest::AtLeast, *first, high, low))
            }
            (_, [(_, CallDecision::Always(answer)), ..]) => Some(self.code.return_label(*answer)),
            (_, [(_, CallDecision::ByArguments(tree)), ..]) => {
                let default = self.code.return_label(self.default);
                let rest = tree.cut.iter().rev();
                let rest = rest.fold(default, |next, rule| self.write_level(rule, next));
                Some(self.write_level(&tree.level, rest))
            }
            _ => None,
        }
    }

    /// Writes the comparisons of a level in order. The program continues at `next` if none of them
    /// decides.
    fn write_level(&mut self, nodes: &'a [Node], next: Label) -> Label {
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
            if self.code.len() > WRITE_LIMIT {
                break;
            }
            let shared =
                loaded.filter(|(_, later)| node.compares_same_bits(later) && node.is_leaf());
            if let (None, Some((compared, later))) = (shared, loaded) {
                label = self.write_load(later, compared);
            }
            let yes = self.write_branch(&node.yes, label);
            let no = self.write_branch(&node.no, label);
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
                WordComparison::Equal => JumpTest::Equal,
                WordComparison::Greater => JumpTest::Greater,
                WordComparison::AtLeast => JumpTest::AtLeast,
            };
            loaded = Some((self.code.push_branch(test, node.value, yes, no), node));
        }
        if let Some((compared, node)) = loaded {
            label = self.write_load(node, compared);
        }
        self.levels.push((nodes, next, label));
        label
    }

    fn write_branch(&mut self, branch: &'a Branch, next: Label) -> Label {
        match branch {
            Branch::Next => next,
            Branch::Answer(answer) => self.code.return_label(*answer),
            Branch::Level(nodes) => self.write_level(nodes, next),
        }
    }

    /// Writes the load of the word that a node compares.
    fn write_load(&mut self, node: &Node, next: Label) -> Label {
        let ArgWord { argument, high } = node.word;
        let second = if high == self.big_endian { 0 } else { 4 };
        let next = if node.mask == u32::MAX {
            next
        } else {
            self.code.push_mask(node.mask, next)
        };
        self.code
            .push_load(ARGUMENTS_OFFSET + 8 * argument + second, next)
    }
}
