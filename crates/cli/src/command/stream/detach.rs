//! The keys that leave a container alone: `ctrl-p,ctrl-q` unless the user says otherwise.

use crate::terminal;

/// `ctrl-p,ctrl-q`.
const DEFAULT_KEYS: [u8; 2] = [16, 17];

/// Reads `a,ctrl-b,…`. What cannot be read is said, and the default is used.
pub(in crate::command) fn keys(text: &str) -> Vec<u8> {
    if text.is_empty() {
        return DEFAULT_KEYS.to_vec();
    }
    parse(text).unwrap_or_else(|why| {
        terminal::print_error(&format!("invalid detach escape keys, using default: {why}\n"));
        DEFAULT_KEYS.to_vec()
    })
}

fn parse(text: &str) -> Result<Vec<u8>, String> {
    let key = |word: &str| {
        let bad = || format!("Unknown character: '{word}'");
        match word.as_bytes() {
            [byte] => Ok(*byte),
            [b'c', b't', b'r', b'l', b'-', byte] => match byte {
                b'a'..=b'z' => Ok(byte - b'a' + 1),
                b'@' => Ok(0),
                b'[' => Ok(27),
                b'\\' => Ok(28),
                b']' => Ok(29),
                b'^' => Ok(30),
                b'_' => Ok(31),
                _ => Err(bad()),
            },
            _ => Err(bad()),
        }
    };
    text.split(',').map(key).collect()
}

/// Finds the keys in what is typed. Keys that begin the sequence are held back until it is decided.
pub(super) struct Filter {
    keys: Vec<u8>,
    /// How many of the keys were typed.
    matched: usize,
}

impl Filter {
    pub(super) fn new(keys: Vec<u8>) -> Self {
        Self { keys, matched: 0 }
    }

    /// What to send on, and whether the sequence is complete.
    pub(super) fn pass(&mut self, typed: &[u8]) -> (Vec<u8>, bool) {
        let mut out = Vec::with_capacity(typed.len());
        for byte in typed {
            if self.keys.get(self.matched) == Some(byte) {
                self.matched += 1;
                if self.matched == self.keys.len() {
                    return (out, true);
                }
                continue;
            }
            // Not the sequence after all: what was held back is typed text. The byte may begin it anew.
            out.extend_from_slice(&self.keys[..self.matched]);
            self.matched = 0;
            if self.keys.first() == Some(byte) && self.keys.len() > 1 {
                self.matched = 1;
            } else {
                out.push(*byte);
            }
        }
        (out, false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequences() {
        assert_eq!(parse("ctrl-p,ctrl-q").unwrap(), DEFAULT_KEYS);
        assert_eq!(parse("a,ctrl-[").unwrap(), [b'a', 27]);
        assert!(parse("ctrl-P").is_err() && parse("ab").is_err());
        let mut filter = Filter::new(DEFAULT_KEYS.to_vec());
        assert_eq!(filter.pass(b"ls\x10"), (b"ls".to_vec(), false));
        assert_eq!(filter.pass(b"x\x10\x10"), (b"\x10x\x10".to_vec(), false));
        assert_eq!(filter.pass(b"\x11y"), (Vec::new(), true));
    }
}
