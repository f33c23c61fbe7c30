//! Takes the money, once.

use jiff::Timestamp;
use serde_json::json;
use tasker::{StepContext, StepError, StepResult};

use crate::failure::{permanent, retryable, within};
use crate::money::Cents;
use crate::order::{Context, Payment, PaymentInfo, ValidatedCart};
use crate::shop::Shop;

/// Takes the total, which must be what the customer agreed to.
pub async fn process_payment(step: StepContext, shop: Shop) -> StepResult<Payment> {
    let context: Context = step.context()?;
    let payment = &context.payment_info;
    let method = (payment.method.as_ref())
        .ok_or_else(|| permanent("MISSING_PAYMENT_METHOD", "it is not said how to pay"))?;
    if payment.token.is_none() {
        return Err(permanent("MISSING_PAYMENT_TOKEN", "the payment has no token").into());
    }
    let cart: ValidatedCart = step
        .parent_if_any("validate_cart")?
        .ok_or_else(|| permanent("MISSING_CART_TOTAL", "the cart has no total"))?;
    check_amount(payment, cart.total)?;
    let failure = context
        .simulate
        .failure(&context.simulate.payment, step.attempt());
    let retries = cart
        .express_processing
        .map(|express| express.payment_retries);
    // With a timeout only the answer is lost: the money is taken below, and nobody here knows.
    if failure.is_some_and(|failure| failure != "timeout") {
        refuse(failure, retries, &step)?;
    }
    let key = step.idempotency_key();
    let payment = Payment {
        payment_id: format!("pay_{key}"),
        amount_charged: cart.total,
        currency: payment.currency.clone(),
        payment_method_type: method.clone(),
        transaction_id: format!("txn_{key}"),
        processed_at: Timestamp::now(),
        status: "completed".to_owned(),
    };
    let charged = shop.books().charge(&key, payment);
    refuse(failure, retries, &step)?;
    Ok(charged)
}

fn check_amount(payment: &PaymentInfo, total: Cents) -> Result<(), StepError> {
    let amount = payment.amount.as_ref();
    if amount.and_then(Cents::of) == Some(total) {
        return Ok(());
    }
    let said = amount.map_or("nothing".to_owned(), ToString::to_string);
    let message = format!("the total is {total}, the customer agreed to {said}");
    Err(permanent("PAYMENT_AMOUNT_MISMATCH", message).into())
}

fn refuse(
    failure: Option<&str>,
    retries: Option<u32>,
    step: &StepContext,
) -> Result<(), StepError> {
    let Some(reason) = failure else {
        return Ok(());
    };
    let message = format!("the payment gateway says `{reason}`");
    if let "insufficient_funds" | "card_declined" | "invalid_card" = reason {
        let mut declined = permanent("PAYMENT_DECLINED", message);
        declined.context = json!({"reason": reason});
        return Err(declined.into());
    }
    let busy = retryable(reason, message);
    let busy = match reason {
        "rate_limited" => busy.retry_after(30.0),
        _ => busy,
    };
    Err(within(retries, step, busy))
}
