-- If `ended` leaves its month open, the earliest late order of that month holds it from now on. A late order is a success that
-- came while another attempt held the month.
create function hold_by_late_order(ended charge_attempt) returns void language plpgsql
    as $$
    begin
        if ended.live then
            return;
        end if;
        update charge_attempt
        set state = 'charged', settled_at = late_order_at, upstream_answer = null
        where id = (
            select late.id
            from charge_ledger late
            where late.subscription_id = ended.subscription_id collate "C" and late.billing_month = ended.billing_month
                and late_order_at is not null and not late.live and late.orphaned_at is null and not orphaned
                and not exists (
                    select from charge_attempt holder
                    where holder.live and holder.orphaned_at is null
                        and (
                            holder.subscription_id = late.subscription_id collate "C" and holder.billing_month = late.billing_month
                            or holder.request_id = late.request_id
                        )
                )
            order by late_order_at, late.id
            limit 1
        );
    exception
        -- Somebody has just taken the request_id.
        when unique_violation then
            return;
    end
    $$;
