//! Moments as RFC 3339 text in UTC, which humantime writes.
//! Not time zones, not durations, not parsing.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The last second that has a four-digit year: 9999-12-31T23:59:59Z.
const LAST: Duration = Duration::from_secs(253_402_300_799);

/// A moment to the second: `2026-11-22T02:48:39Z`. A moment outside the years 1970 to 9999 counts
/// as the nearest moment within them.
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

/// Moves a moment into the years 1970 to 9999. humantime panics at any other moment.
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
