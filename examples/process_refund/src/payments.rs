//! The payments team's steps in which a word of the gateway decides.
//!
//! Each word is a variant, so that the compiler asks what it leads to.

use serde::{Deserialize, Serialize};
use serde_json::json;
use tasker::{Context, HandlerError, StepContext, StepError, StepHandlers, StepResult};

use crate::failure::{permanent, refused, undecided};
use crate::services::{Services, Trouble};

/// Adds the code under the names that `payments.yaml` gives it.
pub(crate) fn add_to(handlers: StepHandlers) -> StepHandlers {
    handlers
        .add(
            "Payments::ValidatePaymentEligibility",
            validate_payment_eligibility,
        )
        .add("Payments::ProcessGatewayRefund", process_gateway_refund)
}

/// The input, as far as it matters here. The schema has looked at it.
#[derive(Debug, Deserialize)]
pub struct RefundOrder {
    payment_id: String,
    /// In cents.
    refund_amount: u64,
    refund_reason: String,
    partial_refund: bool,
    correlation_id: Option<String>,
}

#[derive(Debug, Deserialize)]
struct EligibilityAnswer {
    status: Eligibility,
    refund_amount: u64,
    payment_method: String,
    gateway: String,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Eligibility {
    Eligible,
    Ineligible,
    InsufficientFunds,
    Processing,
    Pending,
}

/// A payment that may be refunded.
#[derive(Debug, Serialize, Deserialize)]
pub struct EligiblePayment {
    payment_validated: bool,
    payment_id: String,
    /// In cents: what the gateway would give back.
    refund_amount: u64,
    payment_method: String,
    gateway_provider: String,
}

/// May this payment be refunded, and how much of it?
pub async fn validate_payment_eligibility(
    Context(refund): Context<RefundOrder>,
    services: Services,
) -> StepResult<EligiblePayment> {
    let asked = json!({
        "payment_id": refund.payment_id,
        "refund_amount": refund.refund_amount,
        "partial_refund": refund.partial_refund,
    });
    let correlation_id = refund.correlation_id.as_deref();
    let asked = services.ask("/eligibility", correlation_id, asked).await;
    let answer: EligibilityAnswer = asked.map_err(of_gateway)?;
    let word = answer.status;
    match word {
        Eligibility::Eligible => Ok(EligiblePayment {
            payment_validated: true,
            payment_id: refund.payment_id,
            refund_amount: answer.refund_amount,
            payment_method: answer.payment_method,
            gateway_provider: answer.gateway,
        }),
        Eligibility::Ineligible | Eligibility::InsufficientFunds => {
            let message = "the payment cannot be refunded";
            Err(refused("PAYMENT_NOT_ELIGIBLE", word, message))
        }
        Eligibility::Processing | Eligibility::Pending => {
            Err(undecided(word, "the payment is still being made"))
        }
    }
}

#[derive(Debug, Deserialize)]
struct RefundAnswer {
    status: Outcome,
    refund_id: String,
    transaction_id: String,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Outcome {
    Processed,
    Completed,
    Failed,
    InsufficientFunds,
    InvalidPayment,
    AlreadyRefunded,
    Pending,
    RateLimited,
}

/// Money that was given back.
#[derive(Debug, Serialize)]
pub struct Refunded {
    refund_processed: bool,
    refund_id: String,
    gateway_transaction_id: String,
    gateway_provider: String,
    /// In cents.
    refund_amount: u64,
    refund_status: Outcome,
}

/// Gives the money back.
pub async fn process_gateway_refund(
    Context(refund): Context<RefundOrder>,
    services: Services,
    step: StepContext,
) -> StepResult<Refunded> {
    let validated: EligiblePayment = step.parent("validate_payment_eligibility")?;
    if refund.refund_amount != validated.refund_amount {
        let message = format!(
            "{} cents are asked for, {} may be refunded",
            refund.refund_amount, validated.refund_amount
        );
        return Err(permanent("AMOUNT_MISMATCH", message));
    }
    let asked = json!({
        "payment_id": refund.payment_id,
        "refund_amount": refund.refund_amount,
        "refund_reason": refund.refund_reason,
        "partial_refund": refund.partial_refund,
    });
    let correlation_id = refund.correlation_id.as_deref();
    let asked = services.ask("/refunds", correlation_id, asked).await;
    let answer: RefundAnswer = asked.map_err(of_gateway)?;
    let word = answer.status;
    match word {
        Outcome::Processed | Outcome::Completed => Ok(Refunded {
            refund_processed: true,
            refund_id: answer.refund_id,
            gateway_transaction_id: answer.transaction_id,
            gateway_provider: validated.gateway_provider,
            refund_amount: refund.refund_amount,
            refund_status: word,
        }),
        Outcome::Failed
        | Outcome::InsufficientFunds
        | Outcome::InvalidPayment
        | Outcome::AlreadyRefunded => {
            let message = "the gateway has refused the refund";
            Err(refused("REFUND_FAILED", word, message))
        }
        Outcome::Pending => Err(undecided(word, "the gateway is still at it")),
        Outcome::RateLimited => Err(undecided(word, "the gateway has too much to do")),
    }
}

/// Where no gateway is, none will be: its address is wrong.
fn of_gateway(trouble: Trouble) -> StepError {
    match trouble {
        Trouble::NoConnection => {
            let message = "the payment gateway cannot be reached";
            permanent("GATEWAY_CONNECTION_FAILED", message)
        }
        other => other.into_step_error(),
    }
}
