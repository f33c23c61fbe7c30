//! Writes the order.

use jiff::{SignedDuration, Timestamp};
use tasker::{StepContext, StepResult};

use crate::failure::permanent;
use crate::order::{Context, Order, Payment, Reservation, ValidatedCart};
use crate::shop::Shop;

const DELIVERY: SignedDuration = SignedDuration::from_hours(7 * 24);

/// Puts together what the steps before have found, and checks that it fits.
pub async fn create_order(step: StepContext, shop: Shop) -> StepResult<Order> {
    let context: Context = step.context()?;
    let customer_email = context
        .customer_info
        .email
        .ok_or_else(|| permanent("MISSING_CUSTOMER_INFO", "the customer has no address"))?;
    let cart: ValidatedCart = step
        .parent_if_any("validate_cart")?
        .ok_or_else(|| permanent("MISSING_CART_VALIDATION", "there is no checked cart"))?;
    let payment: Payment = step
        .parent_if_any("process_payment")?
        .ok_or_else(|| permanent("MISSING_PAYMENT_RESULT", "there is no payment"))?;
    let reservation: Reservation = step
        .parent_if_any("update_inventory")?
        .ok_or_else(|| permanent("MISSING_INVENTORY_RESULT", "nothing is reserved"))?;
    let simulated = context
        .simulate
        .failure(&context.simulate.order, step.attempt());
    let fits =
        payment.amount_charged == cart.total && reservation.total_items_reserved == cart.item_count;
    if !fits || simulated.is_some() {
        let message = "cart, payment and reservation do not fit together";
        return Err(permanent("ORDER_VALIDATION_FAILED", message).into());
    }
    let now = Timestamp::now();
    let task_id = step.task_id().to_string();
    let random = task_id.chars().rev().take(8).collect::<Vec<_>>();
    let random: String = random.into_iter().rev().collect();
    let made = || Order {
        order_id: format!("order_{task_id}"),
        order_number: format!("ORD-{}-{}", now.strftime("%Y%m%d"), random.to_uppercase()),
        status: "confirmed".to_owned(),
        total_amount: cart.total,
        customer_email,
        created_at: now,
        estimated_delivery: now + DELIVERY,
    };
    let mut books = shop.books();
    Ok(books
        .orders
        .entry(step.idempotency_key())
        .or_insert_with(made)
        .clone())
}
