// All that a shop changes.

/** The address of the API's stage, without a slash at its end. */
export const API = "http://localhost:9000";

/** The stage's `billing_timezone`. In it a day and a month begin. */
export const TIME_ZONE = "UTC";

/** The customer's id at the e-commerce platform. A shop knows it; here, each browser is a customer. */
export function customer() {
  const id = localStorage.getItem("customer") ?? crypto.randomUUID();
  localStorage.setItem("customer", id);
  return id;
}

/**
 * Where the stage authenticates customers: an async function that answers what the header `authorization` says, such as the
 * ID token of the customer's session. `null` where it does not.
 */
export const authorization = null;
