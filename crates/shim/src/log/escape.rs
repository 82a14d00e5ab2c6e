//! The inside of a JSON string as Go writes it: HTML's characters escaped, what is no UTF-8 replaced.
//!
//! Output is mostly plain text, so bytes that stand for themselves are found a block at a time and copied as they are.

use std::io::Write;

/// Bytes that are looked at together: what a vector register holds.
const BLOCK: usize = 16;

/// Whether a byte is, or may begin, something that is not written as it is.
const fn is_special(byte: u8) -> bool {
    byte < 0x20 || byte >= 0x80 || matches!(byte, b'"' | b'\\' | b'<' | b'>' | b'&')
}

/// [`is_special`], looked up.
const SPECIAL: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = is_special(byte as u8);
        byte += 1;
    }
    table
};

/// Appends `bytes` to `out`, escaped.
pub(super) fn escape(mut bytes: &[u8], out: &mut Vec<u8>) {
    loop {
        let (plain, rest) = bytes.split_at(plain(bytes));
        out.extend_from_slice(plain);
        let Some(&first) = rest.first() else { return };
        bytes = if first < 0x80 {
            escape_ascii(first, out);
            &rest[1..]
        } else {
            let end = rest.iter().position(u8::is_ascii).unwrap_or(rest.len());
            escape_unicode(&rest[..end], out);
            &rest[end..]
        };
    }
}

/// How many bytes at the beginning stand for themselves.
fn plain(bytes: &[u8]) -> usize {
    let mut at = 0;
    for block in bytes.chunks_exact(BLOCK) {
        // Without a way out in the middle, so that it becomes a few vector instructions.
        if block.iter().fold(false, |any, byte| any | is_special(*byte)) {
            break;
        }
        at += BLOCK;
    }
    bytes[at..].iter().position(|byte| SPECIAL[usize::from(*byte)]).map_or(bytes.len(), |found| at + found)
}

fn escape_ascii(byte: u8, out: &mut Vec<u8>) {
    let short: &[u8] = match byte {
        b'"' => b"\\\"",
        b'\\' => b"\\\\",
        b'\n' => b"\\n",
        b'\r' => b"\\r",
        other => {
            // Writing to a vector cannot fail.
            let _ = write!(out, "\\u{other:04x}");
            return;
        }
    };
    out.extend_from_slice(short);
}

/// Bytes beyond ASCII: whole characters, or none.
fn escape_unicode(bytes: &[u8], out: &mut Vec<u8>) {
    for chunk in bytes.utf8_chunks() {
        let mut text = chunk.valid();
        // U+2028 and U+2029 end lines in JavaScript.
        while let Some(at) = text.find(['\u{2028}', '\u{2029}']) {
            out.extend_from_slice(&text.as_bytes()[..at]);
            let last = text.as_bytes()[at + 2];
            let _ = write!(out, "\\u20{:02x}", last - 0x80);
            text = &text[at + 3..];
        }
        out.extend_from_slice(text.as_bytes());
        // Go replaces each byte that is no UTF-8 by itself.
        for _ in chunk.invalid() {
            out.extend_from_slice(b"\\ufffd");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn escaped(bytes: &[u8]) -> String {
        let mut out = Vec::new();
        escape(bytes, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn strings_as_go_writes_them() {
        assert_eq!(escaped(b"a\"b\\\t\r\n"), r#"a\"b\\\u0009\r\n"#);
        assert_eq!(escaped(b"<&>\x01\x7f"), "\\u003c\\u0026\\u003e\\u0001\x7f");
        assert_eq!(escaped("ä\u{2028}\u{2029}\u{2030}".as_bytes()), "ä\\u2028\\u2029\u{2030}");
        assert_eq!(escaped(b"a\xff\xfeb"), "a\\ufffd\\ufffdb");
    }

    #[test]
    fn every_byte_at_every_place_of_a_block() {
        for length in [1, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK] {
            for place in 0..length {
                for byte in 0..=255_u8 {
                    let mut bytes = vec![b'x'; length];
                    bytes[place] = byte;
                    let text = format!("\"{}\"", escaped(&bytes));
                    let read: String = serde_json::from_str(&text).unwrap();
                    assert_eq!(read, String::from_utf8_lossy(&bytes), "{byte} at {place} of {length}");
                }
            }
        }
    }
}
