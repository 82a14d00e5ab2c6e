//! Reading what other programs (and we) have put into the firewall.

use super::expression::{DATA_VERDICT, IMMEDIATE_DATA, VERDICT_CHAIN};
use super::{
    Attributes, CHAIN_HANDLE, CHAIN_HOOK, CHAIN_NAME, CHAIN_POLICY, CHAIN_TABLE, CHAIN_TYPE, ChainName, DELCHAIN,
    DELRULE, DELTABLE, Error, GETCHAIN, GETRULE, GETTABLE, HOOK_NUMBER, LIST_ELEM, NEWCHAIN, NEWRULE, NEWTABLE,
    RULE_CHAIN, RULE_EXPRESSIONS, RULE_HANDLE, RULE_TABLE, RULE_USERDATA, Reply, Socket, TABLE_NAME, TableFamily,
    USERDATA_COMMENT, message,
};

/// `struct nfgenmsg`.
const FIXED_LEN: usize = 4;
const EXPR_NAME: u16 = 1;
const EXPR_DATA: u16 = 2;
const NF_DROP: u32 = 0;

/// A chain as listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChainInfo {
    /// Its table.
    pub table: String,
    /// Its name.
    pub name: String,
    /// Its handle.
    pub handle: u64,
    /// Number of its hook (2 is forward), if it is a base chain.
    pub hook: Option<u32>,
    /// `filter`, `nat`, `route`.
    pub kind: Option<String>,
    /// Does it drop what its rules do not decide?
    pub policy_drop: bool,
}

/// A rule as listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleInfo {
    /// Its handle.
    pub handle: u64,
    /// The chain that it jumps to.
    pub jump: Option<String>,
    /// What its maker wrote beside it.
    pub comment: Option<String>,
}

/// A notification about something else than an element of a set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Family number of the table (`TableFamily as u8`).
    pub family: u8,
    /// Name of the table.
    pub table: String,
    /// Name of the chain, when a chain or a rule changed.
    pub chain: Option<String>,
}

/// Names of the tables of a family.
pub fn tables(socket: &mut Socket, family: TableFamily) -> Result<Vec<String>, Error> {
    let mut tables = Vec::new();
    socket.dump(&message(GETTABLE, 0, family), |reply| {
        tables.extend(reply.attributes(FIXED_LEN).find_text(TABLE_NAME).map(str::to_owned));
    })?;
    Ok(tables)
}

/// All chains of a family.
pub fn chains(socket: &mut Socket, family: TableFamily) -> Result<Vec<ChainInfo>, Error> {
    let mut chains = Vec::new();
    socket.dump(&message(GETCHAIN, 0, family), |reply| {
        let attributes = reply.attributes(FIXED_LEN);
        let read = || {
            Some(ChainInfo {
                table: attributes.find_text(CHAIN_TABLE)?.to_owned(),
                name: attributes.find_text(CHAIN_NAME)?.to_owned(),
                handle: handle(attributes.find_value(CHAIN_HANDLE))?,
                hook: attributes.find_nested(CHAIN_HOOK).and_then(|hook| hook.find_be32(HOOK_NUMBER)),
                kind: attributes.find_text(CHAIN_TYPE).map(str::to_owned),
                policy_drop: attributes.find_be32(CHAIN_POLICY) == Some(NF_DROP),
            })
        };
        chains.extend(read());
    })?;
    Ok(chains)
}

/// The rules of a chain in their order; none when there is no such chain.
pub fn rules(socket: &mut Socket, name: ChainName<'_>) -> Result<Vec<RuleInfo>, Error> {
    let mut request = message(GETRULE, 0, name.family);
    request.text(RULE_TABLE, name.table).text(RULE_CHAIN, name.chain);
    let mut rules = Vec::new();
    let result = socket.dump(&request, |reply| {
        let attributes = reply.attributes(FIXED_LEN);
        // The kernel filters by these; an old one would not.
        let here = attributes.find_text(RULE_TABLE) == Some(name.table)
            && attributes.find_text(RULE_CHAIN) == Some(name.chain);
        if let (true, Some(handle)) = (here, handle(attributes.find_value(RULE_HANDLE))) {
            let jump = attributes.find_nested(RULE_EXPRESSIONS).and_then(jump_target);
            let comment = attributes.find_value(RULE_USERDATA).and_then(comment);
            rules.push(RuleInfo { handle, jump: jump.map(str::to_owned), comment });
        }
    });
    match result {
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(Vec::new()),
        other => other.map(|()| rules),
    }
}

/// Reads a notification; `None` for those about elements, sets, generations and other things.
pub fn read_change(reply: &Reply<'_>) -> Option<Change> {
    let attributes = reply.attributes(FIXED_LEN);
    let (table, chain) = match reply.kind {
        NEWTABLE | DELTABLE => (attributes.find_text(TABLE_NAME)?, None),
        NEWCHAIN | DELCHAIN => (attributes.find_text(CHAIN_TABLE)?, attributes.find_text(CHAIN_NAME)),
        NEWRULE | DELRULE => (attributes.find_text(RULE_TABLE)?, attributes.find_text(RULE_CHAIN)),
        _ => return None,
    };
    let family = *reply.payload.first()?;
    Some(Change { family, table: table.to_owned(), chain: chain.map(str::to_owned) })
}

fn handle(value: Option<&[u8]>) -> Option<u64> {
    Some(u64::from_be_bytes(value?.try_into().ok()?))
}

fn jump_target(expressions: Attributes<'_>) -> Option<&str> {
    expressions.filter(|(kind, _)| *kind == LIST_ELEM).find_map(|(_, value)| {
        let expression = Attributes::new(value);
        if expression.find_text(EXPR_NAME) != Some("immediate") {
            return None;
        }
        expression
            .find_nested(EXPR_DATA)?
            .find_nested(IMMEDIATE_DATA)?
            .find_nested(DATA_VERDICT)?
            .find_text(VERDICT_CHAIN)
    })
}

/// Userdata is a list of type, length, value.
fn comment(userdata: &[u8]) -> Option<String> {
    let mut rest = userdata;
    while let [kind, len, tail @ ..] = rest {
        let value = tail.get(..usize::from(*len))?;
        if *kind == USERDATA_COMMENT {
            return super::super::message::text(value).map(str::to_owned);
        }
        rest = &tail[usize::from(*len)..];
    }
    None
}
