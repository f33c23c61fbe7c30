//! Tells the customer, once.

use jiff::Timestamp;
use tasker::{StepContext, StepResult};

use crate::failure::{permanent, retryable, within};
use crate::order::{Confirmation, Context, Order, ValidatedCart};
use crate::shop::Shop;

/// Sends a mail with a link to the order.
pub async fn send_confirmation(step: StepContext, shop: Shop) -> StepResult<Confirmation> {
    let context: Context = step.context()?;
    let order: Order = step
        .parent_if_any("create_order")?
        .ok_or_else(|| permanent("MISSING_ORDER_RESULT", "there is no order"))?;
    let cart: Option<ValidatedCart> = step.parent_if_any("validate_cart")?;
    let recipient = order.customer_email;
    if !is_address(&recipient) {
        let message = "the customer's address is none that mail can be sent to";
        return Err(permanent("INVALID_EMAIL", message).into());
    }
    if let Some(reason) = context
        .simulate
        .failure(&context.simulate.email, step.attempt())
    {
        let busy = retryable(reason, format!("the mail system says `{reason}`"));
        let busy = match reason {
            "rate_limited" => busy.retry_after(60.0),
            _ => busy,
        };
        let express = cart.and_then(|cart| cart.express_processing);
        return Err(within(
            express.map(|express| express.email_retries),
            &step,
            busy,
        ));
    }
    step.log(format!(
        "order {} at https://shop.example.com/orders/{}",
        order.order_number, order.order_id
    ));
    let key = step.idempotency_key();
    let sent = || Confirmation {
        email_sent: true,
        recipient,
        email_type: "order_confirmation".to_owned(),
        sent_at: Timestamp::now(),
        message_id: format!("msg_{key}"),
    };
    Ok(shop
        .books()
        .mails
        .entry(key.clone())
        .or_insert_with(sent)
        .clone())
}

fn is_address(text: &str) -> bool {
    let parts = text.split_once('@');
    parts.is_some_and(|(who, place)| {
        !who.is_empty() && place.contains('.') && !text.contains(char::is_whitespace)
    })
}
