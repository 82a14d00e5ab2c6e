//! The legacy IPv4 firewall (`iptables-legacy`): reading and replacing a whole table through socket options.
//!
//! The kernel knows tables as one block of entries each; what an entry looks like is for the caller to read. This
//! file only moves blocks between the kernel and us.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use rustix::net::{AddressFamily, SocketFlags, SocketType, ipproto};

const IPT_SO_SET_REPLACE: libc::c_int = 64;
const IPT_SO_SET_ADD_COUNTERS: libc::c_int = 65;
const IPT_SO_GET_INFO: libc::c_int = 64;
const IPT_SO_GET_ENTRIES: libc::c_int = 65;
const NAME_LEN: usize = 32;
/// `struct ipt_getinfo`.
const INFO_LEN: usize = 84;
/// Entries follow the name and the size, aligned to 8.
const GET_ENTRIES_LEN: usize = 40;
/// `struct ipt_replace` up to its entries.
const REPLACE_LEN: usize = 96;
/// `struct xt_counters`: packets and bytes.
pub const COUNTERS_LEN: usize = 16;
/// Number of hooks.
pub const HOOKS: usize = 5;
/// Larger tables are not touched.
const SIZE_MAX: usize = 16 << 20;

/// A table as the kernel keeps it; offsets count from the start of `entries`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// Bit mask of the hooks that it has chains for.
    pub valid_hooks: u32,
    /// Offset of the first entry of each hook's chain.
    pub hook_entry: [u32; HOOKS],
    /// Offset of the policy of each hook's chain.
    pub underflow: [u32; HOOKS],
    /// How many there are.
    pub num_entries: u32,
    /// `struct ipt_entry`s, one after the other.
    pub entries: Vec<u8>,
}

/// A raw socket, which the options are set on.
#[derive(Debug)]
pub struct XtablesSocket(OwnedFd);

impl XtablesSocket {
    /// Needs CAP_NET_RAW and CAP_NET_ADMIN.
    pub fn open() -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC;
        let fd = rustix::net::socket_with(AddressFamily::INET, SocketType::RAW, flags, Some(ipproto::RAW))?;
        Ok(Self(fd))
    }

    /// Reads a table. Asking for one that is not there creates it, so ask /proc/net/ip_tables_names first.
    pub fn read(&self, name: &str) -> io::Result<Table> {
        let mut info = [0; INFO_LEN];
        info[..NAME_LEN].copy_from_slice(&table_name(name)?);
        self.get(IPT_SO_GET_INFO, &mut info)?;
        let word = |index: usize| {
            let at = NAME_LEN + 4 * index;
            u32::from_ne_bytes([info[at], info[at + 1], info[at + 2], info[at + 3]])
        };
        let size = word(12) as usize;
        if size > SIZE_MAX {
            return Err(io::Error::other("the table is too large"));
        }
        let mut block = vec![0; GET_ENTRIES_LEN + size];
        block[..NAME_LEN].copy_from_slice(&table_name(name)?);
        block[NAME_LEN..NAME_LEN + 4].copy_from_slice(&word(12).to_ne_bytes());
        // Fails with EAGAIN when the table has grown meanwhile.
        self.get(IPT_SO_GET_ENTRIES, &mut block)?;
        Ok(Table {
            valid_hooks: word(0),
            hook_entry: std::array::from_fn(|hook| word(1 + hook)),
            underflow: std::array::from_fn(|hook| word(6 + hook)),
            num_entries: word(11),
            entries: block.split_off(GET_ENTRIES_LEN),
        })
    }

    /// Replaces a table that had `old_entries` entries. All counters begin at zero; `counters` (one for each new
    /// entry) are added to them.
    pub fn replace(
        &self,
        name: &str,
        table: &Table,
        old_entries: u32,
        counters: &[[u8; COUNTERS_LEN]],
    ) -> io::Result<()> {
        // The kernel hands the old counters out here.
        let mut old = vec![[0u8; COUNTERS_LEN]; old_entries as usize];
        let size = u32::try_from(table.entries.len()).map_err(io::Error::other)?;
        let mut block = Vec::with_capacity(REPLACE_LEN + table.entries.len());
        block.extend_from_slice(&table_name(name)?);
        for word in [table.valid_hooks, table.num_entries, size] {
            block.extend_from_slice(&word.to_ne_bytes());
        }
        for word in table.hook_entry.iter().chain(&table.underflow).chain([&old_entries]) {
            block.extend_from_slice(&word.to_ne_bytes());
        }
        block.extend_from_slice(&(old.as_mut_ptr() as usize).to_ne_bytes());
        block.extend_from_slice(&table.entries);
        // SAFETY: the block is a `struct ipt_replace`; its pointer leads to as many counters as it says, which outlive
        // the call (`old` is dropped at the end of this function).
        unsafe { self.set(IPT_SO_SET_REPLACE, &block)? };
        drop(old);
        let mut block = table_name(name)?.to_vec();
        block.extend_from_slice(&u32::try_from(counters.len()).map_err(io::Error::other)?.to_ne_bytes());
        block.resize(GET_ENTRIES_LEN, 0);
        block.extend_from_slice(counters.as_flattened());
        // SAFETY: the block is a `struct xt_counters_info`, without pointers.
        unsafe { self.set(IPT_SO_SET_ADD_COUNTERS, &block) }
    }

    fn get(&self, option: libc::c_int, block: &mut [u8]) -> io::Result<()> {
        let mut len = libc::socklen_t::try_from(block.len()).map_err(io::Error::other)?;
        // SAFETY: both pointers lead to memory that we own for the time of the call, and the length is the block's.
        let result = unsafe {
            libc::getsockopt(self.0.as_raw_fd(), libc::IPPROTO_IP, option, block.as_mut_ptr().cast(), &raw mut len)
        };
        if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    /// # Safety
    /// Pointers inside the block must be valid as the option's structure says.
    unsafe fn set(&self, option: libc::c_int, block: &[u8]) -> io::Result<()> {
        let len = libc::socklen_t::try_from(block.len()).map_err(io::Error::other)?;
        // SAFETY: the block is readable for its whole length; what it points to is the caller's promise.
        let result =
            unsafe { libc::setsockopt(self.0.as_raw_fd(), libc::IPPROTO_IP, option, block.as_ptr().cast(), len) };
        if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }
}

/// Padded with zeros.
fn table_name(name: &str) -> io::Result<[u8; NAME_LEN]> {
    let mut bytes = [0; NAME_LEN];
    if name.len() >= NAME_LEN {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    bytes[..name.len()].copy_from_slice(name.as_bytes());
    Ok(bytes)
}
