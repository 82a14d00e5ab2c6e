//! What the caller and a container's first process say to each other while the container is made.
//!
//! One packet is one message (`SOCK_SEQPACKET`), so that neither side has to know where a message ends; descriptors
//! travel beside it. The end of the other process is the end of the conversation.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, SocketFlags, SocketType,
};
use serde::{Deserialize, Serialize};

use crate::error::Stage;

/// Longer texts (a hook's output) are cut before they are sent: a control character takes six bytes in a message.
const MAX_TEXT: usize = 10 << 10;
const MAX_MESSAGE: usize = 64 << 10;

/// What the new process says.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Message {
    /// I am in a new user namespace; write my id maps. Answered.
    MapIds,
    /// I am in the container's network namespace; move its devices there. Answered.
    NetDevices,
    /// My mounts are made; run the hooks outside. Answered.
    Hooks,
    /// Beside this is the master of the terminal.
    Terminal,
    /// Beside this is the descriptor that system call notifications come from.
    Notifications,
    /// I may not raise my resource limits; do it for me. Answered.
    Limits,
    /// Something could not be applied.
    Warning(String),
    /// The process that you wait for is this child of yours.
    Child(i32),
    /// Everything is done; I wait to be started, or execute the program.
    Ready,
    /// I give up.
    Failed {
        /// Index into `Stage::ALL`.
        stage: Stage,
        message: String,
        errno: Option<i32>,
    },
}

/// One end.
#[derive(Debug)]
pub(crate) struct Channel(OwnedFd);

impl Channel {
    /// Both ends.
    pub(crate) fn pair() -> io::Result<(Self, Self)> {
        let (a, b) = rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        Ok((Self(a), Self(b)))
    }

    /// The same end once more.
    pub(crate) fn try_clone(&self) -> io::Result<Self> {
        self.0.try_clone().map(Self)
    }

    /// Says something, with a descriptor beside it.
    pub(crate) fn send(&self, message: &Message, descriptor: Option<BorrowedFd<'_>>) -> io::Result<()> {
        let bytes = serde_json::to_vec(message)?;
        send_bytes(self.0.as_fd(), &bytes, descriptor)
    }

    /// Says that the work ended, cutting a text that is too long.
    pub(crate) fn fail(&self, stage: Stage, mut message: String, errno: Option<i32>) -> io::Result<()> {
        let end = (0..=MAX_TEXT.min(message.len())).rev().find(|end| message.is_char_boundary(*end));
        message.truncate(end.unwrap_or_default());
        self.send(&Message::Failed { stage, message, errno }, None)
    }

    /// The next message; `None` when the other side is gone.
    pub(crate) fn receive(&self) -> io::Result<Option<(Message, Option<OwnedFd>)>> {
        let mut buffer = vec![0; MAX_MESSAGE];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let received = rustix::io::retry_on_intr(|| {
            rustix::net::recvmsg(&self.0, &mut [IoSliceMut::new(&mut buffer)], &mut ancillary, RecvFlags::CMSG_CLOEXEC)
        })?;
        if received.bytes == 0 {
            return Ok(None);
        }
        let message = serde_json::from_slice(buffer.get(..received.bytes).unwrap_or_default())?;
        let descriptor = ancillary.drain().find_map(|part| match part {
            RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
            _ => None,
        });
        Ok(Some((message, descriptor)))
    }

    /// Answers a message that waits for it.
    pub(crate) fn answer(&self) -> io::Result<()> {
        send_bytes(self.0.as_fd(), b"\n", None)
    }

    /// Waits for the answer; without one there is nobody to work for.
    pub(crate) fn wait_for_answer(&self) -> io::Result<()> {
        let mut byte = [0];
        match rustix::io::retry_on_intr(|| rustix::io::read(&self.0, &mut byte))? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Sends bytes, with a descriptor beside them, over a connected socket. No SIGPIPE when nobody listens.
pub(crate) fn send_bytes(socket: BorrowedFd<'_>, bytes: &[u8], descriptor: Option<BorrowedFd<'_>>) -> io::Result<()> {
    let descriptors: Vec<BorrowedFd<'_>> = descriptor.into_iter().collect();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() {
        ancillary.push(SendAncillaryMessage::ScmRights(&descriptors));
    }
    rustix::io::retry_on_intr(|| {
        rustix::net::sendmsg(socket, &[IoSlice::new(bytes)], &mut ancillary, SendFlags::NOSIGNAL)
    })?;
    Ok(())
}
