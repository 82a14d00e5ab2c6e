//! Firewall rules: tables, chains, rules and maps of nftables.
//!
//! Changes are collected in a [`Batch`] and committed as one transaction: all of them happen, or none. What a packet
//! goes through is a list of [`Expression`]s that load into registers, compare, and end in a verdict or a translation.
//!
//! Registers are the 32-bit ones, counted from 0 here; a value of n bytes takes `n/4` of them, rounded up, and the
//! key of a concatenation is a run of them.

use super::Error;
use super::message::{Attributes, Message, NLM_F_APPEND, NLM_F_CREATE, Reply};
use super::socket::Socket;

mod expression;
mod list;

pub use expression::{Compare, Expression, MetaKey, Verdict};
pub use list::{ChainInfo, Change, RuleInfo, chains, read_change, rules, tables};

const SUBSYSTEM: u16 = 10 << 8;
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
const NEWTABLE: u16 = SUBSYSTEM;
const GETTABLE: u16 = SUBSYSTEM | 1;
const DELTABLE: u16 = SUBSYSTEM | 2;
const NEWCHAIN: u16 = SUBSYSTEM | 3;
const GETCHAIN: u16 = SUBSYSTEM | 4;
const DELCHAIN: u16 = SUBSYSTEM | 5;
const NEWRULE: u16 = SUBSYSTEM | 6;
const GETRULE: u16 = SUBSYSTEM | 7;
const DELRULE: u16 = SUBSYSTEM | 8;
const NEWSET: u16 = SUBSYSTEM | 9;
const NEWSETELEM: u16 = SUBSYSTEM | 12;
const DELSETELEM: u16 = SUBSYSTEM | 14;
/// The multicast group of all changes to nftables, as a bit for `Socket::subscribe`.
pub const NOTIFICATIONS: u32 = 1 << 6;

const TABLE_NAME: u16 = 1;
const CHAIN_TABLE: u16 = 1;
const CHAIN_HANDLE: u16 = 2;
const CHAIN_NAME: u16 = 3;
const CHAIN_HOOK: u16 = 4;
const CHAIN_POLICY: u16 = 5;
const CHAIN_TYPE: u16 = 7;
const HOOK_NUMBER: u16 = 1;
const HOOK_PRIORITY: u16 = 2;
const RULE_TABLE: u16 = 1;
const RULE_CHAIN: u16 = 2;
const RULE_HANDLE: u16 = 3;
const RULE_EXPRESSIONS: u16 = 4;
const RULE_POSITION: u16 = 6;
const RULE_USERDATA: u16 = 7;
const SET_TABLE: u16 = 1;
const SET_NAME: u16 = 2;
const SET_FLAGS: u16 = 3;
const SET_KEY_TYPE: u16 = 4;
const SET_KEY_LEN: u16 = 5;
const SET_DATA_TYPE: u16 = 6;
const SET_DATA_LEN: u16 = 7;
const SET_ID: u16 = 10;
const SET_FLAG_MAP: u32 = 8;
const ELEM_LIST_TABLE: u16 = 1;
const ELEM_LIST_SET: u16 = 2;
const ELEM_LIST_ELEMENTS: u16 = 3;
const ELEM_KEY: u16 = 1;
const ELEM_DATA: u16 = 2;
const LIST_ELEM: u16 = 1;
const DATA_VALUE: u16 = 1;
const USERDATA_COMMENT: u8 = 0;
/// Elements in one message: each takes up to 60 bytes of a list whose length is a 16-bit number.
const ELEMENTS_PER_MESSAGE: usize = 500;

/// Which packets a table sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum TableFamily {
    /// IPv4 and IPv6.
    Inet = 1,
    /// IPv4.
    Ip = 2,
    /// IPv6.
    Ip6 = 10,
}

/// Where a base chain is called from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hook {
    /// Before routing.
    Prerouting = 0,
    /// To this host.
    Input = 1,
    /// Through this host.
    Forward = 2,
    /// From this host.
    Output = 3,
    /// After routing.
    Postrouting = 4,
}

/// What makes a chain a base chain; it accepts what none of its rules decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Base {
    /// `filter` or `nat`.
    pub kind: &'static str,
    /// Its hook.
    pub hook: Hook,
    /// Order among the chains of the hook, lowest first; for `nat` -100 (destination) and 100 (source).
    pub priority: i32,
    /// Does it drop what none of its rules decided?
    pub policy_drop: bool,
}

/// Where a new rule goes in its chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Before all others.
    First,
    /// After all others.
    Last,
    /// After the rule of this handle.
    After(u64),
}

/// The type of a field in a map's key or data: its number (for `nft`, the kernel only knows lengths).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FieldType {
    /// `ipv4_addr`, 4 bytes.
    Ipv4 = 7,
    /// `inet_proto`, 1 byte.
    Protocol = 12,
    /// `inet_service`, 2 bytes, network order.
    Service = 13,
}

/// The name of a chain within its table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChainName<'a> {
    /// Of the table.
    pub family: TableFamily,
    /// Name of the table.
    pub table: &'a str,
    /// Name of the chain.
    pub chain: &'a str,
}

/// Changes that are committed together.
#[derive(Debug, Default)]
pub struct Batch {
    messages: Vec<Message>,
    next_set_id: u32,
}

fn message(kind: u16, flags: u16, family: TableFamily) -> Message {
    Message::new(kind, flags, &[family as u8, 0, 0, 0])
}

impl Batch {
    /// No changes yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes a table, if it is not there.
    pub fn add_table(&mut self, family: TableFamily, table: &str) {
        let mut request = message(NEWTABLE, NLM_F_CREATE, family);
        request.text(TABLE_NAME, table);
        self.messages.push(request);
    }

    /// Removes a table with all that is in it; none of this name is an error.
    pub fn delete_table(&mut self, family: TableFamily, table: &str) {
        let mut request = message(DELTABLE, 0, family);
        request.text(TABLE_NAME, table);
        self.messages.push(request);
    }

    /// Makes a chain, if it is not there.
    pub fn add_chain(&mut self, name: ChainName<'_>, base: Option<Base>) {
        let mut request = message(NEWCHAIN, NLM_F_CREATE, name.family);
        request.text(CHAIN_TABLE, name.table).text(CHAIN_NAME, name.chain);
        if let Some(base) = base {
            request.nest(CHAIN_HOOK, |hook| {
                hook.be32(HOOK_NUMBER, base.hook as u32).be32(HOOK_PRIORITY, base.priority.cast_unsigned());
            });
            request.be32(CHAIN_POLICY, u32::from(!base.policy_drop)).text(CHAIN_TYPE, base.kind);
        }
        self.messages.push(request);
    }

    /// Removes a chain that nothing jumps to, with its rules.
    pub fn delete_chain(&mut self, name: ChainName<'_>) {
        let mut request = message(DELCHAIN, 0, name.family);
        request.text(CHAIN_TABLE, name.table).text(CHAIN_NAME, name.chain);
        self.messages.push(request);
    }

    /// Removes all rules of a chain.
    pub fn flush_chain(&mut self, name: ChainName<'_>) {
        let mut request = message(DELRULE, 0, name.family);
        request.text(RULE_TABLE, name.table).text(RULE_CHAIN, name.chain);
        self.messages.push(request);
    }

    /// Adds a rule. `comment` is what `nft list` shows, at most 127 bytes; empty for none.
    pub fn add_rule(&mut self, name: ChainName<'_>, place: Place, expressions: &[Expression<'_>], comment: &str) {
        let append = if place == Place::First { 0 } else { NLM_F_APPEND };
        let mut request = message(NEWRULE, NLM_F_CREATE | append, name.family);
        request.text(RULE_TABLE, name.table).text(RULE_CHAIN, name.chain);
        if let Place::After(handle) = place {
            request.bytes(RULE_POSITION, &handle.to_be_bytes());
        }
        request.nest(RULE_EXPRESSIONS, |list| {
            for expression in expressions {
                list.nest(LIST_ELEM, |element| expression.write(element));
            }
        });
        if let (false, Ok(len)) = (comment.is_empty(), u8::try_from(comment.len() + 1)) {
            let mut data = vec![USERDATA_COMMENT, len];
            data.extend_from_slice(comment.as_bytes());
            data.push(0);
            request.bytes(RULE_USERDATA, &data);
        }
        self.messages.push(request);
    }

    /// Removes the rule of this handle.
    pub fn delete_rule(&mut self, name: ChainName<'_>, handle: u64) {
        let mut request = message(DELRULE, 0, name.family);
        request.text(RULE_TABLE, name.table).text(RULE_CHAIN, name.chain);
        request.bytes(RULE_HANDLE, &handle.to_be_bytes());
        self.messages.push(request);
    }

    /// Makes a map from a concatenation of `key` to one of `data`.
    pub fn add_map(&mut self, family: TableFamily, table: &str, map: &str, key: &[FieldType], data: &[FieldType]) {
        self.next_set_id += 1;
        let mut request = message(NEWSET, NLM_F_CREATE, family);
        request.text(SET_TABLE, table).text(SET_NAME, map).be32(SET_FLAGS, SET_FLAG_MAP);
        request.be32(SET_KEY_TYPE, concatenated(key)).be32(SET_KEY_LEN, byte_len(key));
        request.be32(SET_DATA_TYPE, concatenated(data)).be32(SET_DATA_LEN, byte_len(data));
        request.be32(SET_ID, self.next_set_id);
        self.messages.push(request);
    }

    /// Adds elements to a map: key and data, each field padded to a multiple of 4 bytes. An equal one may exist.
    pub fn add_elements(&mut self, family: TableFamily, table: &str, map: &str, elements: &[(Vec<u8>, Vec<u8>)]) {
        for chunk in elements.chunks(ELEMENTS_PER_MESSAGE) {
            let mut request = message(NEWSETELEM, NLM_F_CREATE, family);
            request.text(ELEM_LIST_TABLE, table).text(ELEM_LIST_SET, map).nest(ELEM_LIST_ELEMENTS, |list| {
                for (key, data) in chunk {
                    list.nest(LIST_ELEM, |element| {
                        element.nest(ELEM_KEY, |value| _ = value.bytes(DATA_VALUE, key));
                        element.nest(ELEM_DATA, |value| _ = value.bytes(DATA_VALUE, data));
                    });
                }
            });
            self.messages.push(request);
        }
    }

    /// Removes elements by their keys; a missing one is an error.
    pub fn delete_elements(&mut self, family: TableFamily, table: &str, map: &str, keys: &[Vec<u8>]) {
        for chunk in keys.chunks(ELEMENTS_PER_MESSAGE) {
            let mut request = message(DELSETELEM, 0, family);
            request.text(ELEM_LIST_TABLE, table).text(ELEM_LIST_SET, map).nest(ELEM_LIST_ELEMENTS, |list| {
                for key in chunk {
                    list.nest(LIST_ELEM, |element| {
                        element.nest(ELEM_KEY, |value| _ = value.bytes(DATA_VALUE, key));
                    });
                }
            });
            self.messages.push(request);
        }
    }

    /// Nothing to do?
    pub fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// Makes the changes. On an error nothing has changed.
    pub fn commit(self, socket: &mut Socket) -> Result<(), Error> {
        // The subsystem stands in the family header's last field, in network order.
        let [high, low] = (SUBSYSTEM >> 8).to_be_bytes();
        let begin = Message::new(BATCH_BEGIN, 0, &[0, 0, high, low]);
        let end = Message::new(BATCH_END, 0, &[0, 0, high, low]);
        socket.request_batch(&begin, &self.messages, &end)
    }
}

/// nft's number of a concatenation: six bits for each field.
fn concatenated(fields: &[FieldType]) -> u32 {
    fields.iter().fold(0, |number, field| (number << 6) | *field as u32)
}

/// Each field takes a whole number of 32-bit registers; all of ours take one.
fn byte_len(fields: &[FieldType]) -> u32 {
    fields.iter().map(|_| 4).sum()
}
