//! `docker logs`.

use super::{events::when, stream};
use crate::client::{Query, encode};
use crate::error::Error;
use crate::{Invocation, terminal};
use api::container::InspectResponse;
use api::stream::Decoder;

/// Since this version the answer itself says whether it is raw.
const SAYS_SO: u16 = 42;

/// `docker logs`.
pub(crate) async fn logs(call: Invocation) -> Result<u8, Error> {
    let values = &call.values;
    let time = |flag: &str| {
        when(values.text(flag)).map_err(|why| Error::plain(format!("invalid value for \"{flag}\": {why}")))
    };
    let query = Query::new()
        .with("stdout", "1")
        .with("stderr", "1")
        .with_text("since", &time("since")?)
        .with_text("until", &time("until")?)
        .with_flag("timestamps", values.on("timestamps"))
        .with_flag("details", values.on("details"))
        .with_flag("follow", values.on("follow"))
        .with("tail", values.last("tail").unwrap_or("all"));
    let client = call.client()?;
    let path = format!("/containers/{}", encode(&call.words[0]));
    let mut answer = client.open(&format!("{path}/logs"), &query).await?;
    let mut raw = answer.header("content-type") == Some("application/vnd.docker.raw-stream");
    if client.version().before(SAYS_SO) {
        let container: InspectResponse = client.get(&format!("{path}/json"), &Query::new()).await?;
        raw = container.config.tty;
    }
    let mut decoder = Decoder::new();
    while let Some(piece) = answer.chunk().await? {
        if raw {
            terminal::print_bytes(&piece);
        } else {
            stream::show_frames(&mut decoder, &piece).map_err(Error::plain)?;
        }
    }
    Ok(0)
}
