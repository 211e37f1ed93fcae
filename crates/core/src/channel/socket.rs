//! Frames on the set-up socket: both ends, with descriptors passed beside them.
//!
//! A frame is its 64-byte descriptor, then the metadata, then the bytes of its inline tensors in order.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use bytes::Bytes;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    recvmsg, sendmsg,
};
use tokio::io::{AsyncRead, AsyncReadExt};

use super::frame::{BadFrame, DESCRIPTOR_BYTES, Descriptor};

/// Descriptors that come with one frame at most: control page and two eventfds.
pub const MAX_DESCRIPTORS: usize = 3;
/// Memory is taken in such steps while a long frame arrives, so that its header alone costs nothing.
const READ_STEP: usize = 1 << 20;

/// A frame to be sent.
#[derive(Debug)]
pub struct Outgoing {
    /// The fixed part; `metadata_length` is filled in by [`Outgoing::new`].
    pub descriptor: Descriptor,
    /// One encoded message.
    pub metadata: Vec<u8>,
    /// Pieces of the inline tensors, in order.
    pub tensors: Vec<Bytes>,
    /// Descriptors that travel with it.
    pub descriptors: Vec<OwnedFd>,
}

impl Outgoing {
    /// A frame with a metadata message and nothing else.
    pub fn new(descriptor: Descriptor, metadata: &impl prost::Message) -> Self {
        Self::encoded(descriptor, metadata.encode_to_vec())
    }

    /// A frame with metadata that is encoded already.
    #[must_use]
    pub fn encoded(mut descriptor: Descriptor, metadata: Vec<u8>) -> Self {
        descriptor.metadata_length = metadata.len() as u32;
        Self { descriptor, metadata, tensors: Vec::new(), descriptors: Vec::new() }
    }

    /// A descriptor alone: it says everything, or the rest stands in a segment.
    #[must_use]
    pub fn bare(descriptor: Descriptor) -> Self {
        Self { descriptor, metadata: Vec::new(), tensors: Vec::new(), descriptors: Vec::new() }
    }

    /// The descriptor and the metadata as one buffer.
    #[must_use]
    pub fn head(&self) -> Vec<u8> {
        let mut head = Vec::with_capacity(DESCRIPTOR_BYTES + self.metadata.len());
        head.extend_from_slice(&self.descriptor.encode());
        head.extend_from_slice(&self.metadata);
        head
    }
}

/// Send the first bytes of a frame together with its descriptors; the number of bytes that went.
pub fn send_with_descriptors(socket: impl AsFd, head: &[u8], descriptors: &[OwnedFd]) -> io::Result<usize> {
    let borrowed: Vec<BorrowedFd<'_>> = descriptors.iter().map(AsFd::as_fd).collect();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !borrowed.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(&borrowed)) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    Ok(sendmsg(socket, &[IoSlice::new(head)], &mut ancillary, SendFlags::NOSIGNAL)?)
}

/// Write a whole frame on a blocking socket.
pub fn send(socket: impl AsFd, frame: &Outgoing) -> io::Result<()> {
    let head = frame.head();
    let mut sent = send_with_descriptors(socket.as_fd(), &head, &frame.descriptors)?;
    while sent < head.len() {
        sent += send_with_descriptors(socket.as_fd(), &head[sent..], &[])?;
    }
    for tensor in &frame.tensors {
        let mut rest: &[u8] = tensor;
        while !rest.is_empty() {
            rest = &rest[send_with_descriptors(socket.as_fd(), rest, &[])?..];
        }
    }
    Ok(())
}

/// Read exactly `buffer.len()` bytes from a blocking socket and keep the descriptors that come along.
/// `UnexpectedEof` when the peer is gone.
pub fn receive_exact(socket: impl AsFd, buffer: &mut [u8], descriptors: &mut Vec<OwnedFd>) -> io::Result<()> {
    let mut filled = 0;
    while filled < buffer.len() {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let mut pieces = [IoSliceMut::new(&mut buffer[filled..])];
        let received = match recvmsg(socket.as_fd(), &mut pieces, &mut ancillary, RecvFlags::CMSG_CLOEXEC) {
            Err(rustix::io::Errno::INTR) => continue,
            other => other?,
        };
        for message in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(received) = message {
                descriptors.extend(received);
            }
        }
        if received.bytes == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        filled += received.bytes;
    }
    Ok(())
}

/// Read the next descriptor and its metadata from a blocking socket.
pub fn receive(socket: impl AsFd) -> io::Result<(Descriptor, Vec<u8>, Vec<OwnedFd>)> {
    let mut fixed = [0; DESCRIPTOR_BYTES];
    let mut descriptors = Vec::new();
    receive_exact(socket.as_fd(), &mut fixed, &mut descriptors)?;
    let descriptor = Descriptor::decode(&fixed).map_err(invalid)?;
    let mut metadata = vec![0; descriptor.following() as usize];
    receive_exact(socket.as_fd(), &mut metadata, &mut descriptors)?;
    Ok((descriptor, metadata, descriptors))
}

/// Read the next descriptor and its metadata on the engine's side; `None` when the worker is gone.
pub async fn read(socket: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<(Descriptor, Vec<u8>)>> {
    let mut fixed = [0; DESCRIPTOR_BYTES];
    match socket.read_exact(&mut fixed).await {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        other => other?,
    };
    let descriptor = Descriptor::decode(&fixed).map_err(invalid)?;
    let metadata = read_long(socket, u64::from(descriptor.following())).await?;
    Ok(Some((descriptor, metadata)))
}

/// Read `length` bytes, taking memory only as they arrive.
pub async fn read_long(socket: &mut (impl AsyncRead + Unpin), length: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut limited = socket.take(length);
    while limited.limit() > 0 {
        bytes.reserve(READ_STEP.min(limited.limit() as usize));
        if limited.read_buf(&mut bytes).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(bytes)
}

/// A bad frame as an I/O error.
pub fn invalid(error: BadFrame) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}
