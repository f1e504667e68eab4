//! Mappings of user and group ids: of a container's user namespace, and of a mount.
//! Writing them is `launch`'s; whether they make sense was validated.

use oci_spec::runtime::LinuxIdMapping;

/// The mappings of a user namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mappings {
    pub(crate) uids: Vec<Range>,
    pub(crate) gids: Vec<Range>,
}

/// A range of ids, one to one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Range {
    inside: u32,
    outside: u32,
    size: u32,
}

impl Mappings {
    /// The mappings of two lists of config.json.
    pub(crate) fn new(uids: &[LinuxIdMapping], gids: &[LinuxIdMapping]) -> Mappings {
        let ranges = |list: &[LinuxIdMapping]| {
            let range = |m: &LinuxIdMapping| Range {
                inside: m.container_id(),
                outside: m.host_id(),
                size: m.size(),
            };
            list.iter().map(range).collect()
        };
        Mappings {
            uids: ranges(uids),
            gids: ranges(gids),
        }
    }
}

/// The text for a uid_map or gid_map: user_namespaces(7).
pub(crate) fn text(ranges: &[Range]) -> String {
    let line = |r: &Range| format!("{} {} {}\n", r.inside, r.outside, r.size);
    ranges.iter().map(line).collect()
}

/// The ranges of a uid_map or gid_map as it reads; `None` if it doesn't read like one.
pub(crate) fn parse(text: &str) -> Option<Vec<Range>> {
    let range = |line: &str| {
        let mut numbers = line.split_whitespace().map(|word| word.parse().ok());
        Some(Range {
            inside: numbers.next()??,
            outside: numbers.next()??,
            size: numbers.next()??,
        })
    };
    text.lines().map(range).collect()
}

/// The id outside that an id inside stands for.
pub(crate) fn outside(ranges: &[Range], inside: u32) -> Option<u32> {
    ranges.iter().find_map(|r| {
        let offset = inside
            .checked_sub(r.inside)
            .filter(|offset| *offset < r.size)?;
        r.outside.checked_add(offset)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_looked_up_in_all_ranges() {
        let ranges = [
            Range {
                inside: 0,
                outside: 100_000,
                size: 10,
            },
            Range {
                inside: 10,
                outside: 5,
                size: 1,
            },
        ];
        assert_eq!(outside(&ranges, 9), Some(100_009));
        assert_eq!(outside(&ranges, 10), Some(5));
        assert_eq!(outside(&ranges, 11), None);
        assert_eq!(text(&ranges), "0 100000 10\n10 5 1\n");
        assert_eq!(parse(&text(&ranges)), Some(ranges.to_vec()));
        assert_eq!(parse("0 1\n"), None);
    }
}
