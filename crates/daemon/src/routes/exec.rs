//! `/containers/ID/exec` and `/exec`.

use api::exec::{CreateRequest, StartRequest};
use bytes::Bytes;
use engine::AttachSession;
use futures_util::{SinkExt, StreamExt};
use tokio::io::AsyncWriteExt;

use crate::failure::Outcome;
use crate::hijack::{self, RawConnection, Takeover};
use crate::reply::{self, Reply};
use crate::request::{Request, terminal_side};
use crate::router::{Route, routes};
use crate::server;

pub(super) const ROUTES: &[Route] = routes! {
    POST "/containers/{id}/exec" => create,
    POST "/exec/{id}/start" => start,
    POST "/exec/{id}/resize" => resize,
    GET "/exec/{id}/json" => inspect,
};

/// How much of stdin is read at once.
const STDIN_PIECE: usize = 32 << 10;

async fn create(mut request: Request) -> Outcome<Reply> {
    let mut body: CreateRequest = request.json_or_default().await?;
    if request.version.before(42) {
        // Sizes of exec's terminals came with 1.42.
        body.console_size = None;
    }
    reply::json(201, &request.engine.exec_create(&request.name, body).await?)
}

async fn inspect(request: Request) -> Outcome<Reply> {
    reply::json(200, &request.engine.exec_inspect(&request.name).await?)
}

async fn resize(request: Request) -> Outcome<Reply> {
    let (height, width) = (terminal_side(&request.query, "h")?, terminal_side(&request.query, "w")?);
    request.engine.exec_resize(&request.name, height, width).await?;
    Ok(reply::empty(200).into())
}

async fn start(mut request: Request) -> Outcome<Reply> {
    let mut body: StartRequest = request.json_or_default().await?;
    // An exec that does not exist is refused in HTTP; what fails after that is written to the stream.
    let exec = request.engine.exec_inspect(&request.name).await?;
    if request.version.before(42) || !body.tty {
        body.console_size = None;
    }
    if body.detach {
        request.engine.exec_start(&request.name, body).await?;
        return Ok(reply::empty(200).into());
    }
    let (upgrade, tty) = (request.wants_upgrade(), body.tty);
    let content_type = hijack::stream_type(!tty, request.version);
    let (engine, id) = (request.engine, request.name);
    Ok(Reply::Takeover(Takeover::new(move |mut connection| async move {
        if connection.accept(upgrade, content_type, &server::header_lines(&engine.config.version)).await.is_err() {
            return;
        }
        match engine.exec_start(&id, body).await {
            Ok(Some(session)) => pump(connection, session, exec.open_stdin).await,
            Ok(None) => {
                let _ = connection.shutdown().await;
            }
            Err(error) => {
                let text = format!("{}\r\n", error.message());
                let bytes = if tty {
                    Bytes::from(text)
                } else {
                    api::stream::frame(api::stream::Kind::Stdout, text.as_bytes())
                };
                let _ = connection.write_all(&bytes).await;
                let _ = connection.shutdown().await;
            }
        }
    })))
}

/// Copies both ways until the output ends or the client is gone. The end of the client's input closes stdin and nothing else.
pub(super) async fn pump(connection: RawConnection, session: AttachSession, wants_stdin: bool) {
    let (mut from_client, mut to_client) = tokio::io::split(connection);
    let AttachSession { mut output, stdin, .. } = session;
    let mut stdin = stdin.filter(|_| wants_stdin);
    let input = async {
        // Bytes for nobody are still read: their end says that the client is gone.
        while let Ok(Some(piece)) = hijack::read_piece(&mut from_client, STDIN_PIECE).await {
            if let Some(sink) = &mut stdin
                && sink.send(piece).await.is_err()
            {
                stdin = None;
            }
        }
        if let Some(mut sink) = stdin.take() {
            let _ = sink.close().await;
        }
        // A client may close its side and still read the output.
        std::future::pending::<()>().await;
    };
    let output = async {
        while let Some(Ok(piece)) = output.next().await {
            if to_client.write_all(&piece).await.is_err() {
                return;
            }
        }
        let _ = to_client.shutdown().await;
    };
    tokio::select! {
        () = output => {}
        () = input => {}
    }
}
