//! Lists of CPUs and memory nodes in the kernel's syntax: `0-3,7`.
//! The kernel checks whether the host has these CPUs and nodes.

/// The first number above the CPU numbers of any kernel (CONFIG_NR_CPUS is at most 8192).
const END_NUMBER: u64 = 8192;

/// A part of a list. For example, `0-15:2/4` means the first two of every four numbers.
struct ListPart {
    first: u64,
    last: u64,
    used: u64,
    of: u64,
}

impl ListPart {
    /// Parses a part whose numbers are below `end`. The error describes the problem.
    fn parse_part(part: &str, end: u64) -> Result<ListPart, String> {
        let (range, group) = part.split_once(':').unwrap_or((part, "1/1"));
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (used, of) = group.split_once('/').unwrap_or((group, ""));
        let (first, last) = (parse_number(first, end)?, parse_number(last, end)?);
        let (used, of) = (parse_number(used, end)?, parse_number(of, end)?);
        if first > last {
            return Err(format!("the range {first}-{last} runs backwards"));
        }
        if used == 0 || used > of {
            return Err(format!("{used}/{of} is not a group"));
        }
        Ok(ListPart {
            first,
            last,
            used,
            of,
        })
    }

    fn numbers(&self) -> impl Iterator<Item = u64> {
        let ListPart {
            first,
            last,
            used,
            of,
        } = *self;
        (first..=last).filter(move |number| (number - first) % of < used)
    }
}

/// True if the kernel accepts the text as a list, whatever CPUs or nodes the host has.
pub(crate) fn is_number_list(text: &str) -> bool {
    text.split(',')
        .all(|part| ListPart::parse_part(part.trim(), 1 << 32).is_ok())
}

/// Returns the mask for a list. Bit n of the mask is bit n % usize::BITS of word n / usize::BITS.
/// An empty list gives an empty mask. The error describes the problem.
pub(crate) fn list_to_mask(list: &str) -> Result<Vec<usize>, String> {
    let mut mask: Vec<usize> = Vec::new();
    if list.is_empty() {
        return Ok(mask);
    }
    for part in list.split(',') {
        for number in ListPart::parse_part(part.trim(), END_NUMBER)?.numbers() {
            let bits = u64::from(usize::BITS);
            let (word, bit) = (number / bits, number % bits);
            let word = usize::try_from(word).map_err(|error| error.to_string())?;
            if mask.len() <= word {
                mask.resize(word + 1, 0);
            }
            if let Some(word) = mask.get_mut(word) {
                *word |= 1 << bit;
            }
        }
    }
    Ok(mask)
}

fn parse_number(text: &str, end: u64) -> Result<u64, String> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let number = text.parse().ok().filter(|number| *number < end && digits);
    number.ok_or_else(|| {
        let text = super::validate::quote_value(text);
        format!("{text} is not a number below {end}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_becomes_a_mask() {
        for (list, expected) in [
            ("", Ok(vec![])),
            ("0", Ok(vec![1])),
            ("0-3,7", Ok(vec![0b1000_1111])),
            ("63-64", Ok(vec![1 << 63, 1])),
            ("0-7:1/4", Ok(vec![0b1_0001])),
            ("0-3:0/2", Err("0/2 is not a group")),
            ("3-1", Err("the range 3-1 runs backwards")),
            ("0,", Err("\"\" is not a number below 8192")),
            ("1-", Err("\"\" is not a number below 8192")),
            ("+1", Err("\"+1\" is not a number below 8192")),
            ("8192", Err("\"8192\" is not a number below 8192")),
        ] {
            assert_eq!(
                list_to_mask(list),
                expected.map_err(str::to_owned),
                "{list}"
            );
        }
        for (text, accepted) in [
            ("0-3, 7", true),
            ("9999999", true),
            ("0-", false),
            ("", false),
        ] {
            assert_eq!(is_number_list(text), accepted, "{text}");
        }
    }
}
