//! The end of a hook's output, which errors quote.
//! `run` reads the output.

use std::collections::VecDeque;

/// The number of bytes to keep. The quote must fit into a message of the child with room to spare.
const KEPT_BYTES: usize = 1024;

/// The last bytes of a stream.
#[derive(Debug, Default)]
pub(super) struct OutputTail {
    bytes: VecDeque<u8>,
    cut: bool,
}

impl OutputTail {
    /// Appends bytes that were read.
    pub(super) fn append(&mut self, bytes: &[u8]) {
        let over = bytes.len().saturating_sub(KEPT_BYTES);
        self.bytes.extend(bytes.get(over..).unwrap_or_default());
        let surplus = self.bytes.len().saturating_sub(KEPT_BYTES);
        self.bytes.drain(..surplus);
        self.cut |= over + surplus > 0;
    }

    /// Joins the last lines into one, like `: a; b`. Returns an empty string if there are none.
    /// Leaves out the first line if its beginning was cut off and another line follows.
    pub(super) fn quote_lines(&self) -> String {
        let bytes: Vec<u8> = self.bytes.iter().copied().collect();
        let text = String::from_utf8_lossy(&bytes);
        let whole = match text.split_once('\n') {
            Some((_, rest)) if self.cut && !rest.trim().is_empty() => rest,
            _ => &text,
        };
        let lines: Vec<String> = whole
            .lines()
            .map(|line| line.replace(char::is_control, " ").trim().to_owned())
            .filter(|line| !line.is_empty())
            .collect();
        if lines.is_empty() {
            String::new()
        } else {
            format!(": {}", lines.join("; "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quoted(pieces: &[&[u8]]) -> String {
        let mut tail = OutputTail::default();
        pieces.iter().for_each(|piece| tail.append(piece));
        tail.quote_lines()
    }

    #[test]
    fn lines_become_one_and_nothing_stays_nothing() {
        assert_eq!(quoted(&[]), "");
        assert_eq!(quoted(&[b" \n\n"]), "");
        let lines: [&[u8]; 2] = [b"no ne", b"twork\n\n\x1b[1mtry again\r\n"];
        assert_eq!(quoted(&lines), ": no network; [1mtry again");
    }

    #[test]
    fn only_the_end_is_kept_from_the_begin_of_a_line() {
        let long = "x".repeat(3000);
        assert_eq!(quoted(&[long.as_bytes(), b"\nlast\n"]), ": last");
        assert_eq!(quoted(&[long.as_bytes()]).len(), KEPT_BYTES + 2);
        assert_eq!(quoted(&[long.as_bytes(), b"\n"]).len(), KEPT_BYTES + 1);
        assert_eq!(quoted(&[&[0xff_u8; 2000]]).chars().count(), KEPT_BYTES + 2);
    }
}
