//! Archives that clients send: read by a blocking thread, and to the end even when that has given up.
//!
//! A client that is still writing when the connection closes sees a broken pipe and never the answer. So what nobody wants any
//! more is read and dropped, within a limit.

use std::io;

use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use tokio::sync::mpsc;

use crate::archive::flow;

/// Pieces between the connection and the thread's own queue.
const QUEUE: usize = 2;
/// How much is read for nothing, in bytes: some seconds' worth.
const MAX_DROPPED: u64 = 4 << 30;

/// The reader for the thread, and the work to be done beside it.
pub(super) fn reader(
    mut body: impl Stream<Item = io::Result<Bytes>> + Send + Unpin + 'static,
) -> (impl io::Read + Send + 'static, impl Future<Output = ()>) {
    let (pieces, receiver) = mpsc::channel(QUEUE);
    let queue = stream::unfold(receiver, |mut receiver| async move {
        let piece = receiver.recv().await?;
        Some((piece, receiver))
    });
    let (reader, feed) = flow::inwards(queue.boxed());
    let pump = async move {
        let (mut wanted, mut dropped) = (true, 0);
        while let Some(piece) = body.next().await {
            let (length, failed) = piece.as_ref().map_or((0, true), |bytes| (bytes.len() as u64, false));
            if wanted {
                wanted = pieces.send(piece).await.is_ok();
            } else {
                dropped += length;
            }
            if failed || dropped > MAX_DROPPED {
                return;
            }
        }
    };
    let work = async {
        tokio::join!(feed, pump);
    };
    (reader, work)
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[tokio::test]
    async fn all_is_taken_from_who_sends() {
        for wanted in [5, 10_000_000] {
            let (sender, receiver) = mpsc::channel(1);
            let body = stream::unfold(receiver, |mut receiver: mpsc::Receiver<_>| async move {
                let piece = receiver.recv().await?;
                Some((piece, receiver))
            });
            let (reader, work) = reader(body.boxed());
            let reading = tokio::task::spawn_blocking(move || {
                let mut bytes = Vec::new();
                reader.take(wanted).read_to_end(&mut bytes).map(|_| bytes.len())
            });
            let sending = async move {
                for _ in 0..1000 {
                    sender.send(Ok(Bytes::from(vec![0; 1000]))).await.unwrap();
                }
            };
            let (read, (), ()) = tokio::join!(reading, work, sending);
            assert_eq!(read.unwrap().unwrap() as u64, wanted.min(1_000_000));
        }
    }
}
