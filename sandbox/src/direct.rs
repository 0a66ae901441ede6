//! The exchange without a network: the same keys, books and faults, called directly. It waits for nothing; whoever
//! calls it decides when a request arrives and what becomes of the reply.

use std::fmt;

use quittance_taler::{Amount, ExchangePub, MasterPub};

use crate::SandboxConfig;
use crate::books::{Aggregate, Deposit, DepositError, GrantedRefund};
use crate::faults::FaultKind;
use crate::keys::Protocol;
use crate::purse::{Purse, WithdrawError};
use crate::server::{Broken, HTML, Sent, Shared, damaged};

/// An exchange in memory.
pub struct Direct(Shared);

impl fmt::Debug for Direct {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Direct").field(&self.base_url()).finish()
    }
}

/// Status and body of a reply.
pub type DirectReply = Result<(u16, Vec<u8>), Broken>;

fn sent(answer: Result<Sent, Broken>) -> DirectReply {
    answer.map(|sent| match sent {
        Sent::Json(status, body) => (status, body.to_vec()),
        Sent::Html => (502, HTML.as_bytes().to_vec()),
    })
}

impl Direct {
    /// An exchange that says that it is where the configuration has it listen, and does not.
    #[must_use]
    pub fn new(config: &SandboxConfig) -> Direct {
        Direct(Shared::new(config, config.bind))
    }

    /// Its address for clients.
    #[must_use]
    pub fn base_url(&self) -> String {
        self.0.base_url()
    }

    /// What the exchange *is*.
    #[must_use]
    pub fn master_pub(&self) -> MasterPub {
        self.0.state().keys.master_pub()
    }

    /// Every refund granted, in the order of granting. None is in it twice.
    #[must_use]
    pub fn refunds(&self) -> Vec<GrantedRefund> {
        self.0.state().books.granted().to_vec()
    }

    /// Every deposit, by wallets or by word, in no order.
    #[must_use]
    pub fn deposits(&self) -> Vec<Deposit> {
        self.0.state().books.deposits()
    }

    /// Books a deposit; the same facts again change nothing.
    pub fn deposit(&self, deposit: Deposit) -> Result<(), DepositError> {
        let now = self.0.now();
        self.0.state().books.deposit(deposit, now)
    }

    /// See [`crate::Sandbox::withdraw`].
    pub fn withdraw(&self, amount: Amount) -> Result<Purse, WithdrawError> {
        self.0.withdraw(amount)
    }

    /// Speaks that protocol from now on.
    pub fn speak(&self, protocol: Protocol) {
        self.0.state().keys.protocol = protocol;
    }

    /// Pays out the deposits whose refund deadline has passed. Returns how many.
    pub fn aggregate(&self, which: Aggregate) -> usize {
        let now = self.0.now();
        self.0.state().books.aggregate(which, now)
    }

    /// Signs with a new key from now on; `/keys` lists the older ones too.
    pub fn rotate_signing_key(&self) -> ExchangePub {
        let now = self.0.now();
        self.0.state().keys.rotate(now)
    }

    /// `GET /keys`.
    pub fn keys(&self, fault: Option<FaultKind>) -> DirectReply {
        sent(damaged(fault, || self.0.keys(fault)))
    }

    /// `POST /coins/$COIN_PUB/refund`.
    pub fn refund(&self, coin: &str, body: &[u8], fault: Option<FaultKind>) -> DirectReply {
        let now = self.0.now();
        sent(damaged(fault, || self.0.state().refund(coin, body, fault, now)))
    }

    /// `POST /batch-deposit`.
    pub fn batch_deposit(&self, body: &[u8], fault: Option<FaultKind>) -> DirectReply {
        let now = self.0.now();
        sent(damaged(fault, || self.0.state().batch_deposit(body, fault, now)))
    }
}
