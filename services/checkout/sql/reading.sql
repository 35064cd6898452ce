-- Reads orders with their payment and tickets.

-- name: orders_by_id
select
    o.*, p.provider, p.session_id, p.url, p.state as payment_state, p.amount as payment_amount,
    p.currency as payment_currency, p.pay_until_ms as payment_until_ms, p.declines,
    case when o.state in ('CAPTURING', 'CONFIRMED') then (
        select json_agg(t order by t.section, t.unit) from orders.tickets t where t.order_id = o.order_id
    ) end as tickets
from orders.orders o left join payments.payments p using (order_id)
where o.order_id = any ($1::text[]);

-- name: orders_of_buyer
-- The ids of a buyer's orders of a sale, newest first, after the one that a page ended with.
select order_id, accepted_at_ms from orders.orders
where buyer = $1 and sale = $2 and (accepted_at_ms, order_id) < ($3, $4)
order by accepted_at_ms desc, order_id desc limit $5;

-- name: id_in_sale
-- Under which of their ids a subject has orders of a sale: a sale knows each buyer by one.
select o.buyer from buyers.buyers b join orders.orders o using (buyer)
where b.namespace = $2 and b.subject = $3 and o.sale = $1 limit 1;

-- name: units_of_sale
-- What every order of a sale has to do with its units, with those that live tickets claim.
select
    o.order_id, o.buyer, o.state, o.reason, o.hold_id, o.items, o.units, o.place, o.amount, o.accepted_at_ms,
    o.pin_until_ms, o.owes_units,
    (
        select json_agg(json_build_object('section', t.section, 'unit', t.unit)) from orders.tickets t
        where t.order_id = o.order_id and t.state = 'LIVE'
    ) as tickets
from orders.orders o where o.sale = $1;

-- name: count_orders
-- How many orders a sale has by state, and how many of them still owe something to the ledger or the provider.
select
    o.state, count(*) as orders,
    count(*) filter (where o.owes_units or p.state in ('AUTHORIZED', 'VOIDING', 'REFUNDING')) as unsettled
from orders.orders o left join payments.payments p using (order_id)
where o.sale = $1 group by o.state;

-- name: count_orders_of_sales
select sale, state, count(*) as orders from orders.orders where sale = any ($1::text[]) group by sale, state;

-- name: count_unpublished
select count(*) from orders.outbox where not published;

-- name: webhook_seen
select exists (select from payments.webhooks where provider = $1 and event_id = $2);
