'use strict';

/**
 * One line for each call. It has no path as it was sent, no query and no message of the gateway's, because these can have
 * an id in them: the message about a refused signature repeats the path. On an open stage, an id is all that a caller needs.
 */
const LINE = {
  requestId: '$context.requestId',
  route: '$context.httpMethod $context.resourcePath',
  status: '$context.status',
  latency: '$context.responseLatency',
  error: '$context.error.responseType',
  authorizerStatus: '$context.authorizer.status',
  caller: '$context.identity.userArn',
};
/** The subject of the token that an authorizer of this type accepted. */
const SUBJECT = {
  COGNITO_USER_POOLS: '$context.authorizer.claims.sub',
  TOKEN: '$context.authorizer.principalId',
};

/**
 * The stage's log. The gateway writes it with the role of the account's settings in this region.
 *
 * @param chosen the personal data that a line has as well
 */
module.exports = function accessLog(stage, { service, provider }, chosen, authorizer) {
  const line = {
    ...LINE,
    ...(chosen.source_address && { sourceAddress: '$context.identity.sourceIp' }),
    ...(chosen.subject && { subject: SUBJECT[authorizer.type] }),
  };
  stage.Properties.AccessLogSetting = {
    DestinationArn: { 'Fn::GetAtt': ['AccessLog', 'Arn'] },
    Format: JSON.stringify(line),
  };
  return {
    AccessLog: {
      Type: 'AWS::Logs::LogGroup',
      Properties: {
        LogGroupName: `/aws/apigateway/${service}-${provider.stage}`,
        RetentionInDays: provider.logRetentionInDays,
      },
    },
  };
};
