//! Formats times as RFC 3339 text in UTC with humantime.
//! Other time zones are not supported.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The last second with a four-digit year: 9999-12-31T23:59:59Z.
const LAST: Duration = Duration::from_secs(253_402_300_799);

/// Formats a time to the second: `2026-11-22T02:48:39Z`. A time outside the years 1970 to 9999 is
/// replaced by the nearest time within them.
pub(crate) fn rfc3339(moment: SystemTime) -> String {
    humantime::format_rfc3339_seconds(within_range(moment)).to_string()
}

/// Formats a time to the nanosecond without trailing zeros, as Go's RFC3339Nano does:
/// `2026-11-22T02:48:39.5Z`.
pub(crate) fn rfc3339_nano(moment: SystemTime) -> String {
    let text = humantime::format_rfc3339_nanos(within_range(moment)).to_string();
    let shortened = text.trim_end_matches('Z').trim_end_matches('0');
    format!("{}Z", shortened.trim_end_matches('.'))
}

/// Returns how long ago an RFC 3339 time was: `2 hours ago`. Returns `None` for any other text, and
/// for a time in the future.
pub(crate) fn ago(text: &str, now: SystemTime) -> Option<String> {
    const UNITS: [(&str, u64); 6] = [
        ("year", 365 * 86_400),
        ("month", 30 * 86_400),
        ("week", 7 * 86_400),
        ("day", 86_400),
        ("hour", 3600),
        ("minute", 60),
    ];
    let moment = humantime::parse_rfc3339(text).ok()?;
    let seconds = now.duration_since(moment).ok()?.as_secs();
    // Use a unit only from two units on. Then less than half of the time is rounded away.
    let unit = UNITS.iter().find(|(_, length)| seconds >= 2 * length);
    let (name, length) = unit.copied().unwrap_or(("second", 1));
    let count = seconds / length;
    let plural = if count == 1 { "" } else { "s" };
    Some(format!("{count} {name}{plural} ago"))
}

/// Moves a time into the years 1970 to 9999, because humantime panics at any other time.
fn within_range(moment: SystemTime) -> SystemTime {
    moment.clamp(UNIX_EPOCH, UNIX_EPOCH + LAST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_read_as_rfc3339() {
        for (seconds, expected) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (951_868_800, "2000-03-01T00:00:00Z"),
            (1_704_067_199, "2023-12-31T23:59:59Z"),
            (1_709_164_800, "2024-02-29T00:00:00Z"),
            (1_795_315_719, "2026-11-22T02:48:39Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(
                rfc3339(UNIX_EPOCH + Duration::from_secs(seconds)),
                expected,
                "{seconds}"
            );
        }
    }

    #[test]
    fn a_clock_far_off_reads_as_the_nearest_moment() {
        let before = UNIX_EPOCH - Duration::from_secs(1);
        assert_eq!(rfc3339(before), "1970-01-01T00:00:00Z");
        assert_eq!(rfc3339_nano(before), "1970-01-01T00:00:00Z");
        let after = UNIX_EPOCH + LAST + Duration::from_secs(1);
        assert_eq!(rfc3339(after), "9999-12-31T23:59:59Z");
        assert_eq!(rfc3339_nano(after), "9999-12-31T23:59:59Z");
    }

    #[test]
    fn the_time_since_a_moment_is_told_in_one_unit() {
        let then = UNIX_EPOCH + Duration::new(1_700_000_000, 5);
        let text = rfc3339_nano(then);
        for (seconds, expected) in [
            (0, "0 seconds ago"),
            (1, "1 second ago"),
            (119, "119 seconds ago"),
            (120, "2 minutes ago"),
            (7199, "119 minutes ago"),
            (7200, "2 hours ago"),
            (3 * 86_400, "3 days ago"),
            (21 * 86_400, "3 weeks ago"),
            (800 * 86_400, "2 years ago"),
        ] {
            let now = then + Duration::from_secs(seconds);
            assert_eq!(ago(&text, now).as_deref(), Some(expected));
        }
        assert_eq!(ago(&text, then - Duration::from_secs(1)), None);
        assert_eq!(ago("yesterday", then), None);
    }

    #[test]
    fn nanoseconds_lose_their_trailing_zeros() {
        for (nanoseconds, expected) in [
            (0, "1970-01-01T00:00:10Z"),
            (500_000_000, "1970-01-01T00:00:10.5Z"),
            (1, "1970-01-01T00:00:10.000000001Z"),
            (120_000, "1970-01-01T00:00:10.00012Z"),
        ] {
            assert_eq!(
                rfc3339_nano(UNIX_EPOCH + Duration::new(10, nanoseconds)),
                expected
            );
        }
    }
}
