//! Moments as RFC 3339 text in UTC, made from the system clock without a calendar library.
//! Not time zones, not durations, not parsing.

use std::fmt::Write as _;
use std::time::{SystemTime, UNIX_EPOCH};

const DAY: u64 = 86_400;
/// Days of 400 years: the calendar repeats after them.
const ERA_DAYS: u64 = 146_097;
/// Days from 0000-03-01 to 1970-01-01.
const EPOCH_OFFSET: u64 = 719_468;

/// A moment to the second: `2026-11-22T02:48:39Z`. Moments before 1970 read as 1970.
pub(crate) fn rfc3339(moment: SystemTime) -> String {
    let (seconds, _) = since_epoch(moment);
    format!("{}Z", date_and_time(seconds))
}

/// A moment to the nanosecond without trailing zeros, as Go's RFC3339Nano: `2026-11-22T02:48:39.5Z`.
pub(crate) fn rfc3339_nano(moment: SystemTime) -> String {
    let (seconds, nanoseconds) = since_epoch(moment);
    let mut text = date_and_time(seconds);
    if nanoseconds > 0 {
        let fraction = format!("{nanoseconds:09}");
        // Writing into a String cannot fail.
        let _ = write!(text, ".{}", fraction.trim_end_matches('0'));
    }
    text.push('Z');
    text
}

fn since_epoch(moment: SystemTime) -> (u64, u32) {
    let since = moment.duration_since(UNIX_EPOCH).unwrap_or_default();
    (since.as_secs(), since.subsec_nanos())
}

fn date_and_time(seconds: u64) -> String {
    let (year, month, day) = civil(seconds / DAY);
    let of_day = seconds % DAY;
    let (hour, minute, second) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}")
}

/// Year, month and day of a number of days since 1970-01-01.
///
/// Years are counted from March, so that the leap day is the last one and the months' lengths (31, 30, 31, 30, 31
/// and again) follow a straight line.
fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + EPOCH_OFFSET;
    let (era, of_era) = (days / ERA_DAYS, days % ERA_DAYS);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 {
        from_march + 3
    } else {
        from_march - 9
    };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

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
    fn every_day_of_four_centuries_follows_the_one_before() {
        let length = |year: u64, month: u64| match month {
            4 | 6 | 9 | 11 => 30,
            2 if year.is_multiple_of(4)
                && (!year.is_multiple_of(100) || year.is_multiple_of(400)) =>
            {
                29
            }
            2 => 28,
            _ => 31,
        };
        let (mut year, mut month, mut day) = (1970, 1, 1);
        for days in 0..ERA_DAYS {
            assert_eq!(civil(days), (year, month, day));
            day += 1;
            if day > length(year, month) {
                (month, day) = (month + 1, 1);
            }
            if month > 12 {
                (year, month) = (year + 1, 1);
            }
        }
    }

    #[test]
    fn nanoseconds_lose_their_trailing_zeros() {
        for (nanoseconds, expected) in [
            (0, "1970-01-01T00:00:01Z"),
            (500_000_000, "1970-01-01T00:00:01.5Z"),
            (1, "1970-01-01T00:00:01.000000001Z"),
            (120_000, "1970-01-01T00:00:01.00012Z"),
        ] {
            assert_eq!(
                rfc3339_nano(UNIX_EPOCH + Duration::new(1, nanoseconds)),
                expected
            );
        }
    }
}
