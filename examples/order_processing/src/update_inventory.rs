//! Takes the goods from the stock, once.

use tasker::{StepContext, StepResult};

use crate::failure::{permanent, retryable};
use crate::order::{Context, Reservation, ValidatedCart};
use crate::shop::Shop;

/// Reserves every line of the cart, or none.
pub async fn update_inventory(step: StepContext, shop: Shop) -> StepResult<Reservation> {
    let context: Context = step.context()?;
    let cart: ValidatedCart = step
        .parent_if_any("validate_cart")?
        .ok_or_else(|| permanent("MISSING_VALIDATED_ITEMS", "there are no checked items"))?;
    if context.customer_info.id.is_none() {
        return Err(permanent("MISSING_CUSTOMER_INFO", "the customer has no number").into());
    }
    if let Some(reason) = context
        .simulate
        .failure(&context.simulate.inventory, step.attempt())
    {
        return Err(retryable(reason, format!("the inventory says `{reason}`")).into());
    }
    let order_id = format!("order_{}", step.task_id());
    let key = step.idempotency_key();
    let reserved = shop.books().reserve(&key, &order_id, &cart.validated_items);
    Ok(reserved.ok_or_else(|| retryable("shortage", "there are not enough of one product"))?)
}
