//! Decides about one system call by its arguments, with 32-bit comparisons in the order of
//! libseccomp.
//! `rules` collects the rules, and `program` writes the program.
//!
//! If several rules match, libseccomp does not follow the order of the profile. It sorts
//! comparisons by argument (the last one first), then by operator and value (the narrower first),
//! and merges equal comparisons. This code does the same. But where libseccomp loses a rule, or
//! applies a rule although not all its conditions hold, this code follows the profile. A rule that
//! does not fit completely into the tree is tried again after all others.

use std::collections::BTreeSet;
use std::rc::Rc;

use super::rules::{Condition, ConditionOperator, FilterReturn};

/// Half of an argument, or the whole argument on 32-bit architectures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ArgWord {
    /// The number of the argument, 0 to 5.
    pub(super) argument: u32,
    pub(super) high: bool,
}

/// The comparison of the masked bits of a word with a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WordComparison {
    Equal,
    Greater,
    AtLeast,
}

/// One comparison, with the branches for both results.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Node {
    pub(super) word: ArgWord,
    pub(super) compare: WordComparison,
    pub(super) mask: u32,
    pub(super) value: u32,
    /// True for SCMP_CMP_MASKED_EQ. Such a node never equals a node of another operator.
    masked: bool,
    /// The rank of the operator; higher ranks are compared first.
    rank: Rank,
    /// The value of the condition, with both halves.
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

/// The continuation after a comparison.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Branch {
    /// Continue after this node and everything below it.
    Next,
    Answer(FilterReturn),
    Level(Level),
}

/// Nodes that are compared in order until one decides.
pub(super) type Level = Rc<Vec<Node>>;

/// The decision about one call by its arguments.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Tree {
    pub(super) level: Level,
    /// Rules that do not fit completely into the tree, in the order of the profile.
    pub(super) cut: Vec<Level>,
    /// The conditions of each rule, by argument.
    rules: BTreeSet<Vec<Condition>>,
    /// The largest number of nodes in one level of the tree.
    longest: usize,
}

/// Two rules have different answers for the same arguments. libseccomp refuses the later rule.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Contradiction;

impl Tree {
    /// Adds a rule. Returns `None` and adds nothing if the conditions always hold, because such a
    /// rule needs no tree.
    pub(super) fn add_rule(
        &mut self,
        conditions: &[Condition],
        is_64: bool,
        answer: FilterReturn,
    ) -> Option<Result<(), Contradiction>> {
        let conditions = normalise_conditions(conditions, is_64);
        let Branch::Level(rule) = rule_chain(&conditions, is_64, answer) else {
            return None;
        };
        // An earlier rule may have only the last conditions of this rule, which are compared first.
        // Such a rule already covers this one.
        let mut fewer = (1..conditions.len()).filter_map(|start| conditions.get(start..));
        if fewer.any(|earlier| self.rules.contains(earlier)) {
            return Some(Ok(()));
        }
        self.rules.insert(conditions);
        let mut seen = AddOutcome::default();
        let added = add_to_level(&mut self.level, &rule, &mut seen);
        if seen.cut {
            self.cut.push(rule);
        }
        self.longest = self.longest.max(seen.longest);
        Some(added)
    }

    /// Returns a lower bound for the number of consecutive comparisons. A program has at least that
    /// many instructions.
    pub(super) fn min_comparisons(&self) -> usize {
        self.longest.max(self.level.len() + self.cut.len())
    }
}

/// Sorts conditions by argument. Drops conditions that always hold, and clears the bits that are
/// not compared.
fn normalise_conditions(conditions: &[Condition], is_64: bool) -> Vec<Condition> {
    let width = if is_64 { u64::MAX } else { u32::MAX.into() };
    let masked = conditions.iter().map(|condition| {
        let (op, mask) = match condition.op {
            ConditionOperator::Masked(mask) => {
                (ConditionOperator::Masked(mask & width), mask & width)
            }
            op => (op, width),
        };
        Condition {
            op,
            value: condition.value & mask,
            ..*condition
        }
    });
    let mut normalized: Vec<Condition> = masked
        .filter(|c| c.op != ConditionOperator::Masked(0))
        .collect();
    normalized.sort_by_key(|condition| condition.argument);
    normalized
}

/// Makes the comparisons of one rule.
fn rule_chain(conditions: &[Condition], is_64: bool, answer: FilterReturn) -> Branch {
    let all = conditions.iter().rev();
    all.fold(Branch::Answer(answer), |then, condition| {
        compare_condition(condition, is_64, then)
    })
}

/// Makes the comparisons of one condition; `then` follows if the condition holds.
fn compare_condition(condition: &Condition, is_64: bool, then: Branch) -> Branch {
    let mask = match condition.op {
        ConditionOperator::Masked(mask) => mask,
        _ => u64::MAX,
    };
    let ((mask_high, mask_low), (high, low)) = (split_halves(mask), split_halves(condition.value));
    // `<=` is the opposite of `>`, and `<` is the opposite of `>=`.
    let (compare, holds) = match condition.op {
        ConditionOperator::Equal | ConditionOperator::Masked(_) => (WordComparison::Equal, true),
        ConditionOperator::NotEqual => (WordComparison::Equal, false),
        ConditionOperator::Greater => (WordComparison::Greater, true),
        ConditionOperator::AtMost => (WordComparison::Greater, false),
        ConditionOperator::AtLeast => (WordComparison::AtLeast, true),
        ConditionOperator::Less => (WordComparison::AtLeast, false),
    };
    let node = |high, compare, (mask, value), yes, no| Node {
        word: ArgWord {
            argument: condition.argument,
            high,
        },
        compare,
        mask,
        value,
        masked: matches!(condition.op, ConditionOperator::Masked(_)),
        rank: match condition.op {
            ConditionOperator::Equal
            | ConditionOperator::NotEqual
            | ConditionOperator::Masked(_) => Rank::Same,
            ConditionOperator::Less | ConditionOperator::AtMost => Rank::Below,
            ConditionOperator::Greater | ConditionOperator::AtLeast => Rank::Above,
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
    if compare == WordComparison::Equal {
        return level(node(true, WordComparison::Equal, upper, lower, no));
    }
    let equal = level(node(true, WordComparison::Equal, upper, lower, no));
    level(node(true, WordComparison::Greater, upper, yes, equal))
}

/// Facts collected while a rule is added.
#[derive(Default)]
struct AddOutcome {
    /// True if a part of the rule did not fit.
    cut: bool,
    /// The length of the longest level to which the rule added a node.
    longest: usize,
}

/// Adds a rule, which has one node on each level.
fn add_to_level(
    level: &mut Level,
    rule: &Level,
    seen: &mut AddOutcome,
) -> Result<(), Contradiction> {
    let level = Rc::make_mut(level);
    for new in rule.iter() {
        let place = level
            .iter()
            .position(|old| old.compares_same(new) || old.is_compared_after(new));
        match place.and_then(|place| level.get_mut(place)) {
            Some(old) if old.compares_same(new) => merge_nodes(old, new, seen)?,
            _ => level.insert(place.unwrap_or(level.len()), new.clone()),
        }
    }
    seen.longest = seen.longest.max(level.len());
    Ok(())
}

/// Merges the branches of a node of a new rule into an equal node.
fn merge_nodes(old: &mut Node, new: &Node, seen: &mut AddOutcome) -> Result<(), Contradiction> {
    if let Branch::Answer(answer) = new.yes {
        let is_further = new.whole > old.whole;
        set_answer(old, new, answer, is_further, |node| &mut node.yes)?;
    }
    if let Branch::Answer(answer) = new.no {
        let is_further = new.whole < old.whole;
        set_answer(old, new, answer, is_further, |node| &mut node.no)?;
    }
    if let Branch::Level(more) = &new.yes {
        match &mut old.yes {
            Branch::Next => old.yes = new.yes.clone(),
            Branch::Level(level) => add_to_level(level, more, seen)?,
            // The earlier rule has fewer conditions and decides here. libseccomp then drops the
            // other branch of the new rule.
            Branch::Answer(_) => {
                seen.cut |= new.no != Branch::Next;
                return Ok(());
            }
        }
    }
    if let Branch::Level(more) = &new.no {
        match &mut old.no {
            Branch::Next => old.no = new.no.clone(),
            Branch::Level(level) => add_to_level(level, more, seen)?,
            Branch::Answer(_) => {}
        }
    }
    Ok(())
}

/// Sets the answer of a branch.
fn set_answer(
    old: &mut Node,
    new: &Node,
    answer: FilterReturn,
    is_further: bool,
    branch: fn(&mut Node) -> &mut Branch,
) -> Result<(), Contradiction> {
    let is_leaf = old.is_leaf() || new.is_leaf();
    let decided = branch(old);
    match decided {
        // The new answer also covers the existing rules with more conditions. All of them must have
        // this answer.
        Branch::Level(level) if !all_answers_are(level, answer) => return Err(Contradiction),
        Branch::Answer(before) if *before != answer => {
            // Both conditions hold for all values of the lower half. The answer of the narrower
            // condition counts.
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

/// True if all answers in the level and below it are `answer`.
fn all_answers_are(level: &[Node], answer: FilterReturn) -> bool {
    level
        .iter()
        .flat_map(|node| [&node.yes, &node.no])
        .all(|branch| match branch {
            Branch::Next => true,
            Branch::Answer(other) => *other == answer,
            Branch::Level(level) => all_answers_are(level, answer),
        })
}

impl Node {
    /// True if both nodes make the same comparison, whatever their branches.
    fn compares_same(&self, other: &Node) -> bool {
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

    /// True if the other node is compared before this one.
    fn is_compared_after(&self, other: &Node) -> bool {
        let key = |node: &Node| {
            let value = match node.rank {
                Rank::Below => !node.value,
                Rank::Above | Rank::Same => node.value,
            };
            (node.word.argument, node.word.high, node.rank, value)
        };
        key(self) < key(other)
    }

    /// True if both nodes compare the same bits.
    pub(super) fn compares_same_bits(&self, other: &Node) -> bool {
        (self.word, self.mask) == (other.word, other.mask)
    }

    pub(super) fn is_leaf(&self) -> bool {
        !matches!(
            (&self.yes, &self.no),
            (Branch::Level(_), _) | (_, Branch::Level(_))
        )
    }
}

/// Splits a value into its upper and its lower half.
fn split_halves(value: u64) -> (u32, u32) {
    let [a, b, c, d, e, f, g, h] = value.to_be_bytes();
    (
        u32::from_be_bytes([a, b, c, d]),
        u32::from_be_bytes([e, f, g, h]),
    )
}
