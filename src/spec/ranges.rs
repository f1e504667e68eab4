//! Lists of CPUs and memory nodes in the kernel's syntax: `0-3,7`.
//! The kernel checks whether the host has them.

/// No kernel has this many CPUs (CONFIG_NR_CPUS is at most 8192).
const END: usize = 8192;

/// The mask for a list: bit n is bit n % usize::BITS of word n / usize::BITS. An empty list gives
/// an empty mask. An error says what is wrong.
pub(crate) fn mask(list: &str) -> Result<Vec<usize>, String> {
    let mut mask = Vec::new();
    if list.is_empty() {
        return Ok(mask);
    }
    for part in list.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (number(first)?, number(last)?);
        if first > last {
            return Err(format!("the range {first}-{last} runs backwards"));
        }
        for bit in first..=last {
            set(&mut mask, bit);
        }
    }
    Ok(mask)
}

fn number(text: &str) -> Result<usize, String> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let number = text.parse().ok().filter(|number| *number < END && digits);
    number.ok_or_else(|| {
        let text = super::validate::quoted(text);
        format!("{text} is not a number below {END}")
    })
}

fn set(mask: &mut Vec<usize>, bit: usize) {
    let (word, bit) = (bit / usize::BITS as usize, bit % usize::BITS as usize);
    if mask.len() <= word {
        mask.resize(word + 1, 0);
    }
    if let Some(word) = mask.get_mut(word) {
        *word |= 1 << bit;
    }
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
            ("3-1", Err("the range 3-1 runs backwards")),
            ("0,", Err("\"\" is not a number below 8192")),
            ("1-", Err("\"\" is not a number below 8192")),
            ("+1", Err("\"+1\" is not a number below 8192")),
            ("8192", Err("\"8192\" is not a number below 8192")),
        ] {
            assert_eq!(mask(list), expected.map_err(str::to_owned), "{list}");
        }
    }
}
