'use strict';

/**
 * The gateway's own answers: its type of response, the status, our code, and the detail for a person. A type
 * that is not here is one of the last two, whose status differs from call to call.
 *
 * MISSING_AUTHENTICATION_TOKEN is the gateway's answer to a call without a signature and to an unknown route alike. So
 * only a stage where no route asks for a signature can tell that there is no such route.
 */
const RESPONSES = (signed) => [
  signed
    ? ['MISSING_AUTHENTICATION_TOKEN', 403, 'unauthenticated', 'The call is not signed, or there is no such route.']
    : ['MISSING_AUTHENTICATION_TOKEN', 404, 'not_found', 'There is no such route.'],
  ['RESOURCE_NOT_FOUND', 404, 'not_found', 'There is no such route.'],
  ['UNAUTHORIZED', 401, 'unauthenticated', 'The caller is not known.'],
  ['INVALID_SIGNATURE', 403, 'unauthenticated', 'The signature is not valid.'],
  ['EXPIRED_TOKEN', 403, 'unauthenticated', 'The credentials have expired.'],
  ['ACCESS_DENIED', 403, 'forbidden', 'The caller may not do this.'],
  ['WAF_FILTERED', 403, 'forbidden', 'The firewall refused the call.'],
  ['REQUEST_TOO_LARGE', 413, 'too_large', 'The call is longer than 10 MB.'],
  ['THROTTLED', 429, 'throttled', 'There are too many calls. Repeat this one later.'],
  ['INTEGRATION_FAILURE', 504, 'gateway_timeout', 'The function did not answer. What the call did is not known.'],
  ['INTEGRATION_TIMEOUT', 504, 'gateway_timeout', 'The function did not answer in time. What the call did is not known.'],
  ['DEFAULT_4XX', null, 'invalid_request', 'The gateway refused the call.'],
  ['DEFAULT_5XX', null, 'internal_error', 'Something went wrong in the gateway.'],
];
const TITLES = {
  401: 'Unauthorized',
  403: 'Forbidden',
  404: 'Not Found',
  413: 'Payload Too Large',
  429: 'Too Many Requests',
  504: 'Gateway Timeout',
};
/** Seconds after which a call is worth repeating. */
const RETRY_AFTER = 1;

/** As problems, like what the functions answer; a page of `origin` may read them. */
module.exports = function gatewayResponses({ RestApiId, origin, signed }) {
  return Object.fromEntries(RESPONSES(signed).map((response) => [id(response), resource(response)]));

  function id([type]) {
    return `Gateway${type.toLowerCase().replaceAll(/(?:^|_)(.)/g, (_, letter) => letter.toUpperCase())}`;
  }

  function resource([type, status, code, detail]) {
    const isWorthRepeating = status === 429 || status >= 500 || type === 'DEFAULT_5XX';
    const problem = {
      type: 'about:blank',
      title: TITLES[status] || 'Refused or failed in the gateway',
      ...(status && { status }),
      detail,
      code,
      instance: 'urn:uuid:$context.requestId',
    };
    return {
      Type: 'AWS::ApiGateway::GatewayResponse',
      Properties: {
        RestApiId,
        ResponseType: type,
        ...(status && { StatusCode: String(status) }),
        ResponseParameters: {
          'gatewayresponse.header.Access-Control-Allow-Origin': `'${origin}'`,
          'gatewayresponse.header.Content-Type': "'application/problem+json'",
          'gatewayresponse.header.X-Content-Type-Options': "'nosniff'",
          'gatewayresponse.header.Access-Control-Expose-Headers': "'billing-month,link,location,retry-after'",
          ...(isWorthRepeating && { 'gatewayresponse.header.Retry-After': `'${RETRY_AFTER}'` }),
        },
        ResponseTemplates: { 'application/json': JSON.stringify(problem) },
      },
    };
  }
};
