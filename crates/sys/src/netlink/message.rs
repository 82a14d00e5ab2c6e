//! The bytes of netlink: a header, a fixed part, and attributes that may nest.

use super::Error;

/// Length of `struct nlmsghdr`.
pub(super) const HEADER_LEN: usize = 16;
const ATTRIBUTE_HEADER_LEN: usize = 4;
/// Marks an attribute that holds attributes.
const NLA_F_NESTED: u16 = 1 << 15;
/// The bits of an attribute's type that are not flags.
const NLA_TYPE_MASK: u16 = (1 << 14) - 1;

/// The message asks for something.
pub(super) const NLM_F_REQUEST: u16 = 0x01;
/// The kernel shall acknowledge.
pub(super) const NLM_F_ACK: u16 = 0x04;
/// List all objects.
pub(super) const NLM_F_DUMP: u16 = 0x300;
/// Fail when the object exists.
pub(super) const NLM_F_EXCL: u16 = 0x200;
/// Create the object if it does not exist.
pub(super) const NLM_F_CREATE: u16 = 0x400;
/// Add to the end of a list.
pub(super) const NLM_F_APPEND: u16 = 0x800;

/// One request being written. Attributes are appended in order; [`Message::nest`] opens a level.
#[derive(Debug, Clone)]
pub struct Message {
    bytes: Vec<u8>,
}

impl Message {
    /// A message of type `kind`; `fixed` is the protocol's own header, e.g. `struct ifinfomsg`.
    pub fn new(kind: u16, flags: u16, fixed: &[u8]) -> Self {
        let mut bytes = Vec::with_capacity(256);
        bytes.extend_from_slice(&0u32.to_ne_bytes()); // length, known when it is sent
        bytes.extend_from_slice(&kind.to_ne_bytes());
        bytes.extend_from_slice(&(flags | NLM_F_REQUEST).to_ne_bytes());
        bytes.extend_from_slice(&[0; 8]); // sequence number, set when it is sent; port, the kernel fills it in
        bytes.extend_from_slice(fixed);
        let mut message = Self { bytes };
        message.pad();
        message
    }

    /// An attribute of bytes.
    pub fn bytes(&mut self, kind: u16, value: &[u8]) -> &mut Self {
        let start = self.open(kind);
        self.bytes.extend_from_slice(value);
        self.close(start)
    }

    /// A text attribute, terminated by a zero as the kernel wants it.
    pub fn text(&mut self, kind: u16, value: &str) -> &mut Self {
        let start = self.open(kind);
        self.bytes.extend_from_slice(value.as_bytes());
        self.bytes.push(0);
        self.close(start)
    }

    /// A 32-bit attribute in the machine's byte order (routing).
    pub fn u32(&mut self, kind: u16, value: u32) -> &mut Self {
        self.bytes(kind, &value.to_ne_bytes())
    }

    /// A 32-bit attribute in network byte order (netfilter).
    pub fn be32(&mut self, kind: u16, value: u32) -> &mut Self {
        self.bytes(kind, &value.to_be_bytes())
    }

    /// An attribute that holds what `fill` appends.
    pub fn nest(&mut self, kind: u16, fill: impl FnOnce(&mut Self)) -> &mut Self {
        let start = self.open(kind | NLA_F_NESTED);
        fill(self);
        self.close(start)
    }

    /// Raw bytes inside a nested attribute: veth's peer begins with a `struct ifinfomsg`.
    pub(super) fn raw(&mut self, value: &[u8]) -> &mut Self {
        self.bytes.extend_from_slice(value);
        self
    }

    /// Bytes so far.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Never: a message has a header.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// Appends the finished message to a datagram.
    pub(super) fn write(&self, datagram: &mut Vec<u8>, sequence: u32, more_flags: u16) {
        let start = datagram.len();
        datagram.extend_from_slice(&self.bytes);
        let header = &mut datagram[start..start + HEADER_LEN];
        header[0..4].copy_from_slice(&u32::try_from(self.bytes.len()).unwrap_or(u32::MAX).to_ne_bytes());
        let flags = u16::from_ne_bytes([header[6], header[7]]) | more_flags;
        header[6..8].copy_from_slice(&flags.to_ne_bytes());
        header[8..12].copy_from_slice(&sequence.to_ne_bytes());
    }

    fn open(&mut self, kind: u16) -> usize {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0, 0]);
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        start
    }

    fn close(&mut self, start: usize) -> &mut Self {
        // A longer one than 64 KiB cannot be expressed; callers chunk their lists long before.
        let len = u16::try_from(self.bytes.len() - start).unwrap_or(u16::MAX);
        self.bytes[start..start + 2].copy_from_slice(&len.to_ne_bytes());
        self.pad();
        self
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

/// One message from the kernel.
#[derive(Debug, Clone, Copy)]
pub struct Reply<'a> {
    /// Its type.
    pub kind: u16,
    /// The flags of its header.
    pub flags: u16,
    /// Of the request that it answers; 0 in notifications.
    pub sequence: u32,
    /// Everything after the header.
    pub payload: &'a [u8],
}

impl<'a> Reply<'a> {
    /// The attributes after a fixed part of `fixed_len` bytes.
    pub fn attributes(&self, fixed_len: usize) -> Attributes<'a> {
        Attributes { rest: self.payload.get(fixed_len.next_multiple_of(4)..).unwrap_or_default() }
    }
}

/// Splits a datagram into its messages; a truncated one is an error.
pub(super) fn replies(datagram: &[u8]) -> impl Iterator<Item = Result<Reply<'_>, Error>> {
    let mut rest = datagram;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let Some(header) = rest.get(..HEADER_LEN) else {
            rest = &[];
            return Some(Err(Error::Malformed("truncated header")));
        };
        let len = word(header) as usize;
        let Some(payload) = rest.get(HEADER_LEN..len) else {
            rest = &[];
            return Some(Err(Error::Malformed("truncated message")));
        };
        let reply =
            Reply { kind: half(&header[4..]), flags: half(&header[6..]), sequence: word(&header[8..]), payload };
        rest = rest.get(len.next_multiple_of(4)..).unwrap_or_default();
        Some(Ok(reply))
    })
}

/// Walks over attributes; stops at the first malformed one.
#[derive(Debug, Clone, Copy)]
pub struct Attributes<'a> {
    rest: &'a [u8],
}

impl<'a> Attributes<'a> {
    /// Of a nested attribute's value.
    pub fn new(value: &'a [u8]) -> Self {
        Self { rest: value }
    }

    /// The value of the first attribute of this type.
    pub fn find_value(self, kind: u16) -> Option<&'a [u8]> {
        self.into_iter().find_map(|(found, value)| (found == kind).then_some(value))
    }

    /// The same as text without the final zero.
    pub fn find_text(self, kind: u16) -> Option<&'a str> {
        self.find_value(kind).and_then(text)
    }

    /// The same as a number in the machine's order.
    pub fn find_u32(self, kind: u16) -> Option<u32> {
        self.find_value(kind).and_then(|value| Some(u32::from_ne_bytes(value.try_into().ok()?)))
    }

    /// The same as a number in network order.
    pub fn find_be32(self, kind: u16) -> Option<u32> {
        self.find_value(kind).and_then(|value| Some(u32::from_be_bytes(value.try_into().ok()?)))
    }

    /// The attributes nested in the first one of this type.
    pub fn find_nested(self, kind: u16) -> Option<Attributes<'a>> {
        self.find_value(kind).map(Attributes::new)
    }
}

impl<'a> Iterator for Attributes<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let len = usize::from(half(self.rest.get(..2)?));
        let kind = half(self.rest.get(2..ATTRIBUTE_HEADER_LEN)?) & NLA_TYPE_MASK;
        let value = self.rest.get(ATTRIBUTE_HEADER_LEN..len)?;
        self.rest = self.rest.get(len.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    }
}

/// Text up to the first zero.
pub(super) fn text(value: &[u8]) -> Option<&str> {
    let end = value.iter().position(|byte| *byte == 0).unwrap_or(value.len());
    std::str::from_utf8(&value[..end]).ok()
}

/// The first two bytes, in the machine's order; the caller has checked the length.
fn half(bytes: &[u8]) -> u16 {
    u16::from_ne_bytes([bytes[0], bytes[1]])
}

/// The first four bytes, likewise.
pub(super) fn word(bytes: &[u8]) -> u32 {
    u32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_survive_a_round_trip() {
        let mut message = Message::new(16, 0, &[0; 16]);
        message.text(3, "eth0").nest(18, |nested| {
            nested.u32(1, 7).be32(2, 8);
        });
        let mut datagram = Vec::new();
        message.write(&mut datagram, 5, NLM_F_ACK);
        let reply = replies(&datagram).next().unwrap().unwrap();
        assert_eq!((reply.kind, reply.flags, reply.sequence), (16, NLM_F_REQUEST | NLM_F_ACK, 5));
        let attributes = reply.attributes(16);
        assert_eq!(attributes.find_text(3), Some("eth0"));
        let nested = attributes.find_nested(18).unwrap();
        assert_eq!((nested.find_u32(1), nested.find_be32(2)), (Some(7), Some(8)));
    }

    #[test]
    fn garbage_ends_the_walk() {
        assert!(replies(&[1, 2, 3]).next().unwrap().is_err());
        assert!(replies(&[200, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]).next().unwrap().is_err());
        assert!(replies(&[0; 16]).next().unwrap().is_err());
        assert_eq!(Attributes::new(&[3, 0, 0, 0]).count(), 0);
        assert_eq!(Attributes::new(&[255, 255, 0, 0, 9]).count(), 0);
    }
}
