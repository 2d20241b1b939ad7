//! `tollbook serve`.

use super::CliError;
use crate::clock::Clock;
use crate::config::{ServeArgs, ServerConfig};
use crate::server;

/// Serves until told to stop.
pub(super) async fn serve(args: ServeArgs) -> Result<(), CliError> {
    let config = ServerConfig::load(args)?;
    Ok(server::run(config, Clock::System, None, told_to_stop()).await?)
}

/// Ends on SIGTERM or SIGINT.
pub(super) async fn told_to_stop() {
    use tokio::signal::unix::{SignalKind, signal};
    let terminate = async {
        match signal(SignalKind::terminate()) {
            Ok(mut signal) => signal.recv().await,
            Err(error) => {
                tracing::error!(%error, "SIGTERM cannot be waited for");
                std::future::pending().await
            }
        }
    };
    tokio::select! {
        _ = terminate => {}
        interrupted = tokio::signal::ctrl_c() => {
            if let Err(error) = interrupted {
                tracing::error!(%error, "SIGINT cannot be waited for");
            }
        }
    }
}
