//! Work inside a container's network namespace.
//!
//! A thread enters the namespace and ends there: a shared worker must never come back with a foreign namespace.

use std::fs::File;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::thread;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use sys::netlink::address::{self, Address};
use sys::netlink::link;
use sys::netlink::route::{self, Route};
use sys::netlink::{Family, Socket};

use crate::{Error, Ipv4Cidr, Result, Sandbox, sysctl};

/// Name of the interface inside.
pub(crate) const INTERFACE: &str = "eth0";
/// `lo` is the first interface of every namespace.
const LOOPBACK_INDEX: u32 = 1;
const STACK_SIZE: usize = 256 << 10;

/// What `eth0` is to be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Interface {
    /// Its address.
    pub(crate) address: Ipv4Cidr,
    /// Next hop of the default route.
    pub(crate) gateway: Option<Ipv4Addr>,
    /// Tell the neighbours about an address whose hardware address they may not expect.
    pub(crate) announce: bool,
}

impl Sandbox {
    /// An open descriptor of the namespace.
    pub(crate) fn open(&self) -> Result<OwnedFd> {
        match self {
            Self::Pid(pid) => File::open(format!("/proc/{pid}/ns/net")).map(OwnedFd::from),
            Self::Fd(fd) => fd.try_clone(),
        }
        .map_err(|source| Error::Sandbox { sandbox: format!("{self:?}"), source })
    }
}

/// Runs `work` on a thread of its own inside the namespace.
pub(crate) fn inside<T: Send>(namespace: BorrowedFd<'_>, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    let failed = |source| Error::Sandbox { sandbox: "the container".into(), source };
    thread::scope(|scope| {
        let enter_and_work = move || {
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
                .map_err(|error| failed(error.into()))?;
            work()
        };
        let builder = thread::Builder::new().name("sandbox".into()).stack_size(STACK_SIZE);
        let thread = builder.spawn_scoped(scope, enter_and_work).map_err(failed)?;
        thread.join().unwrap_or_else(|_| Err(failed(io::Error::other("the thread panicked"))))
    })
}

/// Sets up `lo` and `eth0`; to be called inside.
pub(crate) fn configure(interface: &Interface) -> Result<()> {
    let failed = |source| Error::Netlink { operation: format!("configuring {INTERFACE} in the container"), source };
    // Before the interface is up, else it gets a link-local address and announces it.
    sysctl::write(&["ipv6", "conf", INTERFACE, "disable_ipv6"], "1")?;
    if interface.announce {
        sysctl::write(&["ipv4", "conf", INTERFACE, "arp_notify"], "1")?;
    }
    let mut socket = Socket::open(Family::Route).map_err(failed)?;
    let found = link::by_name(&mut socket, INTERFACE).map_err(failed)?;
    let index = found.ok_or_else(|| failed(sys::netlink::Error::Malformed("the interface is not there")))?.index;
    let address = Address { link: index, address: interface.address.address, prefix_len: interface.address.prefix_len };
    let mut requests = vec![link::set_up(LOOPBACK_INDEX), address::add(&address), link::set_up(index)];
    if let Some(gateway) = interface.gateway {
        let everywhere = Ipv4Addr::UNSPECIFIED;
        let default = Route { destination: everywhere, prefix_len: 0, gateway: Some(gateway), link: Some(index) };
        requests.push(route::add(&default));
    }
    socket.request(&requests).map_err(failed)
}

/// Sets up `lo` alone; to be called inside.
pub(crate) fn configure_loopback() -> Result<()> {
    let failed = |source| Error::Netlink { operation: "setting up lo in the container".into(), source };
    let mut socket = Socket::open(Family::Route).map_err(failed)?;
    socket.request(&[link::set_up(LOOPBACK_INDEX)]).map_err(failed)
}
