//! Mappings of user and group ids, for user namespaces and idmapped mounts.
//! `spec` validates the mappings, and `launch` writes them.

use oci_spec::runtime::LinuxIdMapping;

/// The mappings of a user namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mappings {
    pub(crate) uids: Vec<Range>,
    pub(crate) gids: Vec<Range>,
}

/// A range of ids, mapped one to one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Range {
    inside: u32,
    outside: u32,
    size: u32,
}

impl Mappings {
    /// Converts the two lists of mappings in config.json.
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

/// Returns id 0 if the ranges map it, otherwise the first id that they map.
pub(crate) fn first(ranges: &[Range]) -> u32 {
    match outside_id(ranges, 0) {
        Some(_) => 0,
        None => ranges.first().map_or(0, |range| range.inside),
    }
}

/// Parses the mappings in crun's mount option `uids=FROM-TO-SIZE#...;gids=...`. In a range that
/// begins with `@`, TO is an id in the container. The container's user namespace maps this id to an
/// outside id.
pub(crate) fn of_option(text: &str, container: Option<&Mappings>) -> Result<Mappings, String> {
    let (mut uids, mut gids) = (Vec::new(), Vec::new());
    for part in text.split(';').filter(|part| !part.is_empty()) {
        let (list, ranges, own) = match part.split_once('=') {
            Some(("uids", ranges)) => (&mut uids, ranges, container.map(|own| &own.uids)),
            Some(("gids", ranges)) => (&mut gids, ranges, container.map(|own| &own.gids)),
            _ => return Err(format!("{part:?} is neither uids= nor gids=")),
        };
        for range in ranges.split('#') {
            let (relative, numbers) = match range.strip_prefix('@') {
                Some(rest) => (true, rest),
                None => (false, range),
            };
            let numbers: Vec<Option<u32>> = numbers
                .split('-')
                .map(|number| number.parse().ok())
                .collect();
            let [Some(inside), Some(outside), Some(size @ 1..)] = numbers[..] else {
                return Err(format!("{range:?} is not FROM-TO-SIZE"));
            };
            let outside = match (relative, own) {
                (false, _) => Some(outside),
                (true, Some(own)) => self::outside_id(own, outside),
                (true, None) => None,
            };
            let outside = outside.ok_or_else(|| {
                format!("{range:?}: the container's user namespace has no such id")
            })?;
            list.push(Range {
                inside,
                outside,
                size,
            });
        }
    }
    if uids.is_empty() || gids.is_empty() {
        return Err("needs both uids= and gids=".into());
    }
    Ok(Mappings { uids, gids })
}

impl Mappings {
    /// True if both mappings have the same ranges, in any order.
    pub(crate) fn is_same(&self, other: &Mappings) -> bool {
        let sorted = |ranges: &[Range]| {
            let mut ranges = ranges.to_vec();
            ranges.sort_unstable_by_key(|range| range.inside);
            ranges
        };
        sorted(&self.uids) == sorted(&other.uids) && sorted(&self.gids) == sorted(&other.gids)
    }
}

/// Returns the text for a uid_map or gid_map: user_namespaces(7).
pub(crate) fn text(ranges: &[Range]) -> String {
    let line = |r: &Range| format!("{} {} {}\n", r.inside, r.outside, r.size);
    ranges.iter().map(line).collect()
}

/// Parses a uid_map or gid_map. Returns `None` if it is malformed.
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

impl Range {
    /// True if the range maps only this outside id. A user may write such a mapping without a
    /// privileged helper: user_namespaces(7).
    pub(crate) fn maps_only(&self, outside: u32) -> bool {
        self.outside == outside && self.size == 1
    }

    /// Returns the numbers as arguments for newuidmap(1).
    pub(crate) fn tool_arguments(&self) -> [String; 3] {
        [self.inside, self.outside, self.size].map(|number| number.to_string())
    }
}

/// Returns the outside id for an inside id.
pub(crate) fn outside_id(ranges: &[Range], inside: u32) -> Option<u32> {
    ranges.iter().find_map(|r| {
        let offset = inside
            .checked_sub(r.inside)
            .filter(|offset| *offset < r.size)?;
        r.outside.checked_add(offset)
    })
}

/// Returns the inside id that the ranges map to `outside`.
pub(crate) fn inside(ranges: &[Range], outside: u32) -> Option<u32> {
    ranges.iter().find_map(|r| {
        let offset = outside
            .checked_sub(r.outside)
            .filter(|offset| *offset < r.size)?;
        r.inside.checked_add(offset)
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::indexing_slicing)]
    use super::*;

    #[test]
    fn mappings_of_an_option_may_be_relative_to_the_containers() {
        let range = |inside, outside, size| Range {
            inside,
            outside,
            size,
        };
        let container = Mappings {
            uids: vec![range(0, 100_000, 10)],
            gids: vec![range(0, 200_000, 10)],
        };
        let read = |text: &str| of_option(text, Some(&container));
        assert_eq!(
            read("uids=0-1000-1#@1-3-2;gids=@0-0-5"),
            Ok(Mappings {
                uids: vec![range(0, 1000, 1), range(1, 100_003, 2)],
                gids: vec![range(0, 200_000, 5)],
            })
        );
        for wrong in [
            "",
            "uids=0-0-1",
            "uids=0-0;gids=0-0-1",
            "uids=0-0-0;gids=0-0-1",
            "x=0-0-1",
            "uids=@0-10-1;gids=0-0-1",
        ] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
        assert!(of_option("uids=@0-0-1;gids=0-0-1", None).is_err());
    }

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
        assert_eq!(outside_id(&ranges, 9), Some(100_009));
        assert_eq!(outside_id(&ranges, 10), Some(5));
        assert_eq!(outside_id(&ranges, 11), None);
        assert_eq!(text(&ranges), "0 100000 10\n10 5 1\n");
        assert_eq!(parse(&text(&ranges)), Some(ranges.to_vec()));
        assert_eq!(parse("0 1\n"), None);
        let (uids, mut gids) = (ranges.to_vec(), ranges.to_vec());
        let mappings = Mappings {
            uids,
            gids: gids.clone(),
        };
        gids.reverse();
        let mut other = Mappings {
            uids: gids.clone(),
            gids,
        };
        assert!(mappings.is_same(&other));
        other.gids.pop();
        assert!(!mappings.is_same(&other));
        assert!(ranges[1].maps_only(5) && !ranges[0].maps_only(100_000));
    }
}
