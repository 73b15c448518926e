-- Takes attempts of subscriptions that have gone out of the indexes that keep a month and a request_id single.
update charge_attempt attempt
set detached_at = billing_now()
from charge_ledger ledger
where ledger.id = attempt.id
    and ledger.detached
    and attempt.detached_at is null
    and (attempt.subscription_id = $1 or attempt.request_id = $2)
