//! Are these products for sale, and what do they cost?

use jiff::Timestamp;
use tasker::{StepContext, StepError, StepResult};

use crate::failure::{permanent, retryable};
use crate::money::Cents;
use crate::order::{CartItem, Context, ExpressProcessing, Priority, ValidatedCart, ValidatedItem};
use crate::shop::Shop;

const TAX_PERCENT: u64 = 8;

/// Checks the cart line by line, and comes to a total.
pub async fn validate_cart(step: StepContext, shop: Shop) -> StepResult<ValidatedCart> {
    let context: Context = step.context()?;
    if context.cart_items.is_empty() {
        return Err(permanent("MISSING_CART_ITEMS", "the cart is empty").into());
    }
    let failure = context
        .simulate
        .failure(&context.simulate.catalogue, step.attempt());
    let validate = |item| validate_item(item, failure, &shop);
    let items = context.cart_items.iter().map(validate);
    let items = items.collect::<Result<Vec<_>, _>>()?;
    let subtotal: Cents = items.iter().map(|item| item.line_total).sum();
    let item_count = items.iter().map(|item| item.quantity).sum();
    let (tax, shipping) = (subtotal.percent(TAX_PERCENT), shipping(item_count));
    let is_express = context.priority == Priority::Express;
    Ok(ValidatedCart {
        validated_items: items,
        subtotal,
        tax,
        shipping,
        total: subtotal + tax + shipping,
        item_count,
        validated_at: Timestamp::now(),
        express_processing: is_express.then_some(ExpressProcessing {
            payment_timeout_ms: 15_000,
            payment_retries: 1,
            email_retries: 2,
        }),
        premium_processing: context.customer_info.tier == "premium",
    })
}

fn validate_item(
    item: &CartItem,
    failure: Option<&str>,
    shop: &Shop,
) -> Result<ValidatedItem, StepError> {
    let product_id = item
        .product_id
        .ok_or_else(|| permanent("MISSING_PRODUCT_ID", "a line of the cart names no product"))?;
    let quantity = item
        .quantity
        .filter(|quantity| *quantity > 0)
        .ok_or_else(|| {
            permanent(
                "INVALID_QUANTITY",
                format!("product {product_id}: how many?"),
            )
        })?;
    match failure {
        Some("not_found") => {
            let message = format!("product {product_id} is not in the catalogue");
            return Err(permanent("PRODUCT_NOT_FOUND", message).into());
        }
        Some(_) => {
            let message = format!("product {product_id} is no longer sold");
            return Err(permanent("PRODUCT_INACTIVE", message).into());
        }
        None => {}
    }
    let stock = shop.books().stock(product_id);
    if stock < quantity {
        let message = format!("product {product_id}: {quantity} wanted, {stock} in stock");
        return Err(retryable("insufficient_stock", message).into());
    }
    let product = Shop::product(product_id);
    Ok(ValidatedItem {
        product_id,
        name: product.name,
        price: product.price,
        quantity,
        line_total: product.price.times(quantity),
    })
}

/// Two things weigh one unit: up to 2 units, up to 10, more.
fn shipping(items: u32) -> Cents {
    match items {
        0..=4 => Cents(599),
        5..=20 => Cents(999),
        _ => Cents(1499),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shipping_grows_with_the_weight() {
        for (items, cents) in [(1, 599), (4, 599), (5, 999), (20, 999), (21, 1499)] {
            assert_eq!(shipping(items), Cents(cents), "{items}");
        }
    }
}
