//! What is decided about one system call by its arguments: comparisons of 32 bits, in the order in which libseccomp asks.
//! Not which rules there are, nor the program: those are `rules` and `program`.
//!
//! When several rules match, libseccomp answers by none of the profile's order: it sorts comparisons by the argument, the
//! last one first, then by the operator and the value, the narrower first, and joins those that are the same. So does this.
//! Where it loses a rule on the way, or applies one whose conditions don't all hold, this keeps to the profile instead: a
//! rule that is cut short is asked again after all others.

use std::collections::BTreeSet;
use std::rc::Rc;

use super::rules::{Answer, Condition, Op};

/// Half of an argument, or all of it where it has 32 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Word {
    /// 0 to 5.
    pub(super) argument: u32,
    pub(super) high: bool,
}

/// How the bits of a word under a mask are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Compare {
    Equal,
    Greater,
    AtLeast,
}

/// One comparison and what follows from it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Node {
    pub(super) word: Word,
    pub(super) compare: Compare,
    pub(super) mask: u32,
    pub(super) value: u32,
    /// The condition was one of SCMP_CMP_MASKED_EQ: such nodes are no others' equals.
    masked: bool,
    /// Of the condition's operator: the higher is asked first.
    rank: Rank,
    /// The condition's value.
    whole: u64,
    pub(super) yes: Branch,
    pub(super) no: Branch,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    Above,
    Below,
    Same,
}

/// What comes after a comparison.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Branch {
    /// What comes after the node and all that is below it.
    Next,
    Answer(Answer),
    Level(Level),
}

/// Nodes that are asked one after the other until there is an answer.
pub(super) type Level = Rc<Vec<Node>>;

/// All that is decided about one call.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Tree {
    pub(super) level: Level,
    /// Rules of which a part found no place there, in the profile's order.
    pub(super) cut: Vec<Level>,
    /// The conditions of each rule, by argument.
    rules: BTreeSet<Vec<Condition>>,
    /// The length of the longest level.
    longest: usize,
}

/// Two rules that want different answers for the same arguments; libseccomp refuses the later one.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Contradiction;

impl Tree {
    /// Adds a rule; `None` without an effect if its conditions always hold, which makes it no rule for a tree.
    pub(super) fn add(
        &mut self,
        conditions: &[Condition],
        is_64: bool,
        answer: Answer,
    ) -> Option<Result<(), Contradiction>> {
        let conditions = normal(conditions, is_64);
        let Branch::Level(rule) = chain(&conditions, is_64, answer) else {
            return None;
        };
        // A rule with fewer of the same conditions, which are asked before any others, leaves nothing to this one.
        let mut fewer = (1..conditions.len()).filter_map(|start| conditions.get(start..));
        if fewer.any(|earlier| self.rules.contains(earlier)) {
            return Some(Ok(()));
        }
        self.rules.insert(conditions);
        let mut seen = Seen::default();
        let added = join(&mut self.level, &rule, &mut seen);
        if seen.cut {
            self.cut.push(rule);
        }
        self.longest = self.longest.max(seen.longest);
        Some(added)
    }

    /// How many comparisons are asked one after the other at the least; a program has as many instructions.
    pub(super) fn width(&self) -> usize {
        self.longest.max(self.level.len() + self.cut.len())
    }
}

/// Conditions by argument, without those that always hold and without the bits that aren't compared.
fn normal(conditions: &[Condition], is_64: bool) -> Vec<Condition> {
    let width = if is_64 { u64::MAX } else { u32::MAX.into() };
    let masked = conditions.iter().map(|condition| {
        let (op, mask) = match condition.op {
            Op::Masked(mask) => (Op::Masked(mask & width), mask & width),
            op => (op, width),
        };
        Condition {
            op,
            value: condition.value & mask,
            ..*condition
        }
    });
    let mut normal: Vec<Condition> = masked.filter(|c| c.op != Op::Masked(0)).collect();
    normal.sort_by_key(|condition| condition.argument);
    normal
}

/// The comparisons of one rule.
fn chain(conditions: &[Condition], is_64: bool, answer: Answer) -> Branch {
    let all = conditions.iter().rev();
    all.fold(Branch::Answer(answer), |then, condition| {
        one(condition, is_64, then)
    })
}

/// The comparisons of one condition: `then` is what follows if it holds.
fn one(condition: &Condition, is_64: bool, then: Branch) -> Branch {
    let mask = match condition.op {
        Op::Masked(mask) => mask,
        _ => u64::MAX,
    };
    let ((mask_high, mask_low), (high, low)) = (halves(mask), halves(condition.value));
    // An order is what its opposite isn't.
    let (compare, holds) = match condition.op {
        Op::Equal | Op::Masked(_) => (Compare::Equal, true),
        Op::NotEqual => (Compare::Equal, false),
        Op::Greater => (Compare::Greater, true),
        Op::AtMost => (Compare::Greater, false),
        Op::AtLeast => (Compare::AtLeast, true),
        Op::Less => (Compare::AtLeast, false),
    };
    let node = |high, compare, (mask, value), yes, no| Node {
        word: Word {
            argument: condition.argument,
            high,
        },
        compare,
        mask,
        value,
        masked: matches!(condition.op, Op::Masked(_)),
        rank: match condition.op {
            Op::Equal | Op::NotEqual | Op::Masked(_) => Rank::Same,
            Op::Less | Op::AtMost => Rank::Below,
            Op::Greater | Op::AtLeast => Rank::Above,
        },
        whole: condition.value,
        yes,
        no,
    };
    let level = |node| Branch::Level(Rc::new(vec![node]));
    let (yes, no) = if holds {
        (then, Branch::Next)
    } else {
        (Branch::Next, then)
    };
    let lower = level(node(
        false,
        compare,
        (mask_low, low),
        yes.clone(),
        no.clone(),
    ));
    if !is_64 {
        return lower;
    }
    let upper = (mask_high, high);
    if compare == Compare::Equal {
        return level(node(true, Compare::Equal, upper, lower, no));
    }
    let equal = level(node(true, Compare::Equal, upper, lower, no));
    level(node(true, Compare::Greater, upper, yes, equal))
}

/// What is seen on the way of a rule into a tree.
#[derive(Default)]
struct Seen {
    /// A part of the rule found no place.
    cut: bool,
    /// The length of the longest level that the rule has a node on.
    longest: usize,
}

/// Adds the nodes of one rule, one on each level, to a level.
fn join(level: &mut Level, rule: &Level, seen: &mut Seen) -> Result<(), Contradiction> {
    let level = Rc::make_mut(level);
    for new in rule.iter() {
        let place = level
            .iter()
            .position(|old| old.is_same(new) || old.is_after(new));
        match place.and_then(|place| level.get_mut(place)) {
            Some(old) if old.is_same(new) => merge(old, new, seen)?,
            _ => level.insert(place.unwrap_or(level.len()), new.clone()),
        }
    }
    seen.longest = seen.longest.max(level.len());
    Ok(())
}

/// Adds what follows from a comparison of a rule to what follows from the same one of others.
fn merge(old: &mut Node, new: &Node, seen: &mut Seen) -> Result<(), Contradiction> {
    if let Branch::Answer(answer) = new.yes {
        let is_further = new.whole > old.whole;
        conclude(old, new, answer, is_further, |node| &mut node.yes)?;
    }
    if let Branch::Answer(answer) = new.no {
        let is_further = new.whole < old.whole;
        conclude(old, new, answer, is_further, |node| &mut node.no)?;
    }
    if let Branch::Level(more) = &new.yes {
        match &mut old.yes {
            Branch::Next => old.yes = new.yes.clone(),
            Branch::Level(level) => join(level, more, seen)?,
            // A rule with fewer conditions rules alone; libseccomp then forgets of the new one's other branch.
            Branch::Answer(_) => {
                seen.cut |= new.no != Branch::Next;
                return Ok(());
            }
        }
    }
    if let Branch::Level(more) = &new.no {
        match &mut old.no {
            Branch::Next => old.no = new.no.clone(),
            Branch::Level(level) => join(level, more, seen)?,
            Branch::Answer(_) => {}
        }
    }
    Ok(())
}

/// Adds a rule's answer to a branch.
fn conclude(
    old: &mut Node,
    new: &Node,
    answer: Answer,
    is_further: bool,
    branch: fn(&mut Node) -> &mut Branch,
) -> Result<(), Contradiction> {
    let is_leaf = old.is_leaf() || new.is_leaf();
    let decided = branch(old);
    match decided {
        // What had more conditions is covered now; it must not have wanted something else.
        Branch::Level(level) if !answers_only(level, answer) => return Err(Contradiction),
        Branch::Answer(before) if *before != answer => {
            // Both hold for all values of the lower half: the narrower one's answer counts.
            if new.word.high && is_further {
                *before = answer;
            }
            if is_leaf {
                return Err(Contradiction);
            }
        }
        _ => *decided = Branch::Answer(answer),
    }
    Ok(())
}

/// True if all answers below are this one.
fn answers_only(level: &[Node], answer: Answer) -> bool {
    level
        .iter()
        .flat_map(|node| [&node.yes, &node.no])
        .all(|branch| match branch {
            Branch::Next => true,
            Branch::Answer(other) => *other == answer,
            Branch::Level(level) => answers_only(level, answer),
        })
}

impl Node {
    /// The same comparison, whatever follows.
    fn is_same(&self, other: &Node) -> bool {
        let key = |node: &Node| {
            let Node {
                word,
                compare,
                mask,
                value,
                masked,
                ..
            } = *node;
            (word, compare, mask, value, masked)
        };
        key(self) == key(other)
    }

    /// True if the other one is asked before this.
    fn is_after(&self, other: &Node) -> bool {
        let key = |node: &Node| {
            let value = match node.rank {
                Rank::Below => !node.value,
                Rank::Above | Rank::Same => node.value,
            };
            (node.word.argument, node.word.high, node.rank, value)
        };
        key(self) < key(other)
    }

    /// True if both compare the same bits.
    pub(super) fn has_word_of(&self, other: &Node) -> bool {
        (self.word, self.mask) == (other.word, other.mask)
    }

    pub(super) fn is_leaf(&self) -> bool {
        !matches!(
            (&self.yes, &self.no),
            (Branch::Level(_), _) | (_, Branch::Level(_))
        )
    }
}

/// The upper and the lower half.
fn halves(value: u64) -> (u32, u32) {
    let [a, b, c, d, e, f, g, h] = value.to_be_bytes();
    (
        u32::from_be_bytes([a, b, c, d]),
        u32::from_be_bytes([e, f, g, h]),
    )
}
