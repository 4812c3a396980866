//! Keeps an account registered (webrtc-registration.yaml).

use std::sync::Arc;
use std::time::Duration;

use super::account::Account;
use super::api::Registration;
use super::backoff::pause;
use crate::clock;
use crate::protocol::time::Timestamp;

/// Registrations don't follow each other faster, whatever the operator says.
const FLOOR: Duration = Duration::from_millis(500);
/// Longer sleeps are cut in pieces: a timer has an end too.
const LONGEST_SLEEP: Duration = Duration::from_secs(3_600);

/// How long until a registration is to be refreshed: a third of its life is left for second tries.
fn due(now: Timestamp, registration: &Registration) -> Duration {
    registration.expires.since(now).mul_f64(2.0 / 3.0).clamp(FLOOR, LONGEST_SLEEP)
}

/// Registers, refreshes and registers again, until it is aborted.
pub(super) async fn keep(account: Arc<Account>) {
    let mut failures = 0;
    loop {
        let current = *account.registered.borrow();
        let step = match current {
            None => account.api.register(account.device).await,
            Some(registration) => account.api.refresh(registration.id).await,
        };
        let wait = match step {
            Ok(registration) => {
                if current.is_none_or(|before| before.id != registration.id) {
                    tracing::info!(expires = %registration.expires, "registered at an operator");
                }
                account.registered.send_replace(Some(registration));
                failures = 0;
                due(clock::now(), &registration)
            }
            // It forgot us: at once there is a new one.
            Err(error) if current.is_some() && error.status() == Some(404) => {
                account.registered.send_replace(None);
                FLOOR
            }
            Err(error) => {
                if current.is_some_and(|registration| registration.expires <= clock::now()) {
                    account.registered.send_replace(None);
                }
                let wait = pause(failures).max(error.after().unwrap_or_default());
                failures = (failures + 1).min(32);
                tracing::warn!(%error, ?wait, "not registered at an operator");
                wait
            }
        };
        let begun = clock::instant();
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = account.again.notified(), if failures == 0 => {
                tokio::time::sleep_until((begun + FLOOR).into()).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn a_registration_is_refreshed_before_its_end() {
        let now = Timestamp::from_millis(1_000_000);
        let due =
            |life| due(now, &Registration { id: Uuid::nil(), expires: now + Duration::from_secs(life) });
        assert_eq!(due(3_600), Duration::from_secs(2_400));
        assert_eq!(due(0), FLOOR);
        assert_eq!(due(1_000_000), LONGEST_SLEEP);
    }
}
