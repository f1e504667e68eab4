//! Reads a seccomp filter in the kernel's binary form, which an annotation gives in base64.

use oci_spec::runtime::LinuxSeccomp;

use super::{LONGEST, SeccompFilter, flags};
use crate::sys::seccomp::Instruction;

/// The size of struct sock_filter: a code of 16 bits, two jumps of 8 bits, a value of 32 bits.
const INSTRUCTION_BYTES: usize = 8;

/// Decodes the filter. Its flags are those of linux.seccomp, as in crun.
pub(super) fn filter(
    data: &str,
    configured: Option<&LinuxSeccomp>,
) -> Result<SeccompFilter, String> {
    let bytes = decode(data).ok_or("is not base64")?;
    let (instructions, rest) = bytes.as_chunks::<INSTRUCTION_BYTES>();
    if instructions.is_empty() || !rest.is_empty() || instructions.len() > LONGEST {
        return Err(format!(
            "holds {} bytes, and a filter has 1 to {LONGEST} instructions of {INSTRUCTION_BYTES} bytes",
            bytes.len()
        ));
    }
    let instruction = |[c0, c1, jt, jf, k0, k1, k2, k3]: &[u8; INSTRUCTION_BYTES]| Instruction {
        code: u16::from_ne_bytes([*c0, *c1]),
        jt: *jt,
        jf: *jf,
        k: u32::from_ne_bytes([*k0, *k1, *k2, *k3]),
    };
    let mut warnings = Vec::new();
    let listed = configured.and_then(|profile| profile.flags().as_deref());
    Ok(SeccompFilter {
        program: instructions.iter().map(instruction).collect(),
        flags: flags(listed, false, &mut warnings),
        listener: None,
        warnings,
    })
}

/// Decodes base64 (RFC 4648, section 4). Returns `None` if the text isn't base64.
fn decode(text: &str) -> Option<Vec<u8>> {
    let digits = text.trim_end_matches('=');
    let padding = text.len() - digits.len();
    if !text.len().is_multiple_of(4) || padding > 2 {
        return None;
    }
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    let (mut bits, mut count) = (0_u32, 0);
    for digit in digits.bytes() {
        let value = match digit {
            b'A'..=b'Z' => digit - b'A',
            b'a'..=b'z' => digit - b'a' + 26,
            b'0'..=b'9' => digit - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(value);
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count & 0xff) as u8);
        }
    }
    // The unused bits of the last digit must be zero.
    (bits & ((1 << count) - 1) == 0).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_decoded_strictly() {
        let good: [(&str, &[u8]); 5] = [
            ("", b""),
            ("Zg==", b"f"),
            ("Zm8=", b"fo"),
            ("Zm9v", b"foo"),
            ("+/8A", &[0xfb, 0xff, 0]),
        ];
        for (text, bytes) in good {
            assert_eq!(decode(text).as_deref(), Some(bytes), "{text}");
        }
        for text in [
            "Zg", "Zg=", "Zh==", "Z===", "Zm9v\n", "Zm-_", "=Zm9", "Zg==Zg==",
        ] {
            assert_eq!(decode(text), None, "{text}");
        }
    }

    #[test]
    fn a_program_has_whole_instructions() {
        let allow = "BgAAAAAA/38=";
        let filter = filter(allow, None).map(|filter| filter.program);
        let expected = Instruction {
            code: 6,
            jt: 0,
            jf: 0,
            k: 0x7fff_0000,
        };
        assert_eq!(filter, Ok(vec![expected]));
        for text in ["", "AAAA", "Zg==Zg=="] {
            assert!(super::filter(text, None).is_err(), "{text}");
        }
    }
}
