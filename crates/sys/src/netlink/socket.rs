//! A netlink socket whose requests are answered before `send` returns.
//!
//! The kernel works a request off inside the sender's system call and queues its answers, so receiving never waits:
//! an empty queue means that there is no more to come. Only the last message of a datagram asks for an
//! acknowledgement (errors of the others come anyway), hence two system calls for any number of messages.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::net::netlink::{self, SocketAddrNetlink};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, sockopt};

use super::Error;
use super::message::{Attributes, Message, NLM_F_ACK, NLM_F_DUMP, Reply, replies, text, word};

const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
/// In an error's header: the request was not echoed whole.
const NLM_F_CAPPED: u16 = 0x100;
const NLM_F_ACK_TLVS: u16 = 0x200;
const NLMSGERR_ATTR_MSG: u16 = 1;
/// What the kernel fills at most in one answer to a dump.
const DUMP_BUFFER: usize = 32 << 10;
const ACK_BUFFER: usize = 8 << 10;
/// Below the default of net.core.wmem_default on every kernel; longer datagrams need a larger send buffer.
const SEND_BUFFER: usize = 100 << 10;

/// Which part of the kernel a socket talks to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// Links, addresses, routes.
    Route,
    /// nftables and conntrack.
    Netfilter,
}

/// An open socket, bound to the network namespace of the thread that opened it.
#[derive(Debug)]
pub struct Socket {
    fd: OwnedFd,
    sequence: u32,
}

impl Socket {
    /// A socket for requests.
    pub fn open(family: Family) -> Result<Self, Error> {
        let protocol = match family {
            Family::Route => None, // NETLINK_ROUTE is 0
            Family::Netfilter => Some(netlink::NETFILTER),
        };
        let fd = rustix::net::socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, protocol)
            .map_err(io::Error::from)?;
        // Errors without the request's bytes, but with the kernel's explanation.
        set_netlink_option(&fd, libc::NETLINK_CAP_ACK)?;
        set_netlink_option(&fd, libc::NETLINK_EXT_ACK)?;
        Ok(Self { fd, sequence: 0 })
    }

    /// A socket that receives the notifications of these groups (a bit for each, group 1 is bit 0).
    pub fn subscribe(family: Family, groups: u32) -> Result<Self, Error> {
        let socket = Self::open(family)?;
        rustix::net::bind(&socket.fd, &SocketAddrNetlink::new(0, groups)).map_err(io::Error::from)?;
        Ok(socket)
    }

    /// Sends the messages in one datagram; the kernel works off all of them, an error in one does not stop the rest.
    /// Returns the first error.
    pub fn request(&mut self, messages: &[Message]) -> Result<(), Error> {
        let Some(last) = messages.len().checked_sub(1) else { return Ok(()) };
        let mut datagram = Vec::with_capacity(messages.iter().map(Message::len).sum());
        for (index, message) in messages.iter().enumerate() {
            self.sequence = self.sequence.wrapping_add(1).max(1);
            message.write(&mut datagram, self.sequence, if index == last { NLM_F_ACK } else { 0 });
        }
        self.exchange(&datagram, self.sequence)
    }

    /// Like `request`, with `tail` as a last message that is not acknowledged (the end of an nftables batch).
    pub(super) fn request_batch(&mut self, head: &Message, body: &[Message], tail: &Message) -> Result<(), Error> {
        let Some(last) = body.len().checked_sub(1) else { return Ok(()) };
        let mut datagram = Vec::with_capacity(body.iter().map(Message::len).sum::<usize>() + 64);
        self.sequence = self.sequence.wrapping_add(1).max(1);
        head.write(&mut datagram, self.sequence, 0);
        for (index, message) in body.iter().enumerate() {
            self.sequence = self.sequence.wrapping_add(1).max(1);
            message.write(&mut datagram, self.sequence, if index == last { NLM_F_ACK } else { 0 });
        }
        let awaited = self.sequence;
        self.sequence = self.sequence.wrapping_add(1).max(1);
        tail.write(&mut datagram, self.sequence, 0);
        self.exchange(&datagram, awaited)
    }

    /// Lists objects: `each` sees every answer. A dump that raced with a change may miss or repeat objects.
    pub fn dump(&mut self, request: &Message, mut each: impl FnMut(Reply<'_>)) -> Result<(), Error> {
        self.sequence = self.sequence.wrapping_add(1).max(1);
        let mut datagram = Vec::with_capacity(request.len());
        request.write(&mut datagram, self.sequence, NLM_F_DUMP);
        self.send(&datagram)?;
        let mut buffer = vec![0; DUMP_BUFFER];
        loop {
            let len = self.receive(&mut buffer)?;
            for reply in replies(&buffer[..len]) {
                let reply = reply?;
                if reply.sequence != self.sequence {
                    continue;
                }
                match reply.kind {
                    NLMSG_DONE => return Ok(()),
                    NLMSG_ERROR => return outcome(&reply),
                    _ => each(reply),
                }
            }
        }
    }

    /// Asks for one object. `None` when there is no such one.
    pub fn get<T>(&mut self, request: &Message, read: impl FnOnce(Reply<'_>) -> T) -> Result<Option<T>, Error> {
        self.sequence = self.sequence.wrapping_add(1).max(1);
        let mut datagram = Vec::with_capacity(request.len());
        request.write(&mut datagram, self.sequence, 0);
        self.send(&datagram)?;
        let mut buffer = vec![0; DUMP_BUFFER];
        loop {
            let len = self.receive(&mut buffer)?;
            for reply in replies(&buffer[..len]) {
                let reply = reply?;
                if reply.sequence != self.sequence {
                    continue;
                }
                if reply.kind != NLMSG_ERROR {
                    return Ok(Some(read(reply)));
                }
                return match outcome(&reply) {
                    Err(error) if matches!(error.raw_os_error(), Some(libc::ENODEV | libc::ENOENT)) => Ok(None),
                    Err(error) => Err(error),
                    Ok(()) => Ok(None),
                };
            }
        }
    }

    /// Takes queued notifications without waiting; `each` sees them. `Ok(false)`: some were lost, look for yourself.
    pub fn notifications(&mut self, mut each: impl FnMut(Reply<'_>)) -> Result<bool, Error> {
        let mut buffer = vec![0; DUMP_BUFFER];
        loop {
            match rustix::net::recv(&self.fd, &mut buffer, RecvFlags::DONTWAIT) {
                Ok((len, _)) => {
                    for reply in replies(&buffer[..len]) {
                        each(reply?);
                    }
                }
                Err(rustix::io::Errno::AGAIN) => return Ok(true),
                Err(rustix::io::Errno::NOBUFS) => return Ok(false),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(Error::Socket(error.into())),
            }
        }
    }

    fn exchange(&mut self, datagram: &[u8], awaited: u32) -> Result<(), Error> {
        self.send(datagram)?;
        let mut buffer = [0; ACK_BUFFER];
        let mut first = Ok(());
        loop {
            let len = match self.receive(&mut buffer) {
                Ok(len) => len,
                // The whole datagram was refused: its error came, the acknowledgement of the last message did not.
                Err(_) if first.is_err() => return first,
                Err(error) => return Err(error),
            };
            for reply in replies(&buffer[..len]) {
                let reply = reply?;
                if reply.kind != NLMSG_ERROR {
                    continue;
                }
                first = first.and(outcome(&reply));
                if reply.sequence == awaited {
                    self.drain();
                    return first;
                }
            }
        }
    }

    /// Forgets late answers, so that the next request does not read them.
    fn drain(&mut self) {
        let mut buffer = [0; 64];
        // Bounded: a request has one answer per message, and only errors come beyond the awaited one.
        for _ in 0..64 {
            if rustix::net::recv(&self.fd, &mut buffer, RecvFlags::DONTWAIT).is_err() {
                return;
            }
        }
    }

    fn send(&self, datagram: &[u8]) -> Result<(), Error> {
        if datagram.len() > SEND_BUFFER {
            sockopt::set_socket_send_buffer_size_force(&self.fd, datagram.len() * 2).map_err(io::Error::from)?;
        }
        rustix::net::send(&self.fd, datagram, SendFlags::empty()).map_err(io::Error::from)?;
        Ok(())
    }

    fn receive(&self, buffer: &mut [u8]) -> Result<usize, Error> {
        loop {
            match rustix::net::recv(&self.fd, &mut *buffer, RecvFlags::DONTWAIT) {
                Ok((len, _)) => return Ok(len),
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::AGAIN) => return Err(Error::Malformed("no answer")),
                Err(error) => return Err(Error::Socket(error.into())),
            }
        }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Reads an `NLMSG_ERROR`: code 0 is an acknowledgement.
fn outcome(reply: &Reply<'_>) -> Result<(), Error> {
    let code = reply.payload.get(..4).ok_or(Error::Malformed("truncated error"))?;
    let code = word(code).cast_signed();
    if code == 0 {
        return Ok(());
    }
    let mut message = None;
    if reply.flags & NLM_F_ACK_TLVS != 0 {
        // After the code comes the request's header, and its body unless it was capped.
        let echoed = match reply.payload.get(4..8) {
            Some(len) if reply.flags & NLM_F_CAPPED == 0 => word(len) as usize,
            _ => super::message::HEADER_LEN,
        };
        let attributes = reply.payload.get(4 + echoed.next_multiple_of(4)..).unwrap_or_default();
        message = Attributes::new(attributes).find_value(NLMSGERR_ATTR_MSG).and_then(text).map(str::to_owned);
    }
    Err(Error::Refused { source: io::Error::from_raw_os_error(code.saturating_neg()), message })
}

fn set_netlink_option(fd: &OwnedFd, option: libc::c_int) -> Result<(), Error> {
    let on: libc::c_int = 1;
    // SAFETY: the option's value is a c_int that outlives the call, and its length is given.
    let result = unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            libc::SOL_NETLINK,
            option,
            (&raw const on).cast(),
            libc::socklen_t::try_from(size_of::<libc::c_int>()).unwrap_or(4),
        )
    };
    if result == 0 { Ok(()) } else { Err(Error::Socket(io::Error::last_os_error())) }
}
