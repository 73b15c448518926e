'use strict';

/** One line for each call. Neither the path as it was sent, the query nor the caller's claims: ids stand in them. */
const LINE = {
  requestId: '"$context.requestId"',
  route: '"$context.httpMethod $context.resourcePath"',
  status: '"$context.status"',
  latency: '"$context.responseLatency"',
  authorizerError: '"$context.authorizer.error"',
  authenticateError: '"$context.authenticate.error"',
  authorizeError: '"$context.authorize.error"',
  // The gateway quotes and escapes it.
  error: '$context.error.messageString',
  caller: '"$context.identity.userArn"',
};

/** The stage's log. The gateway writes it with the role of the account's settings in this region. */
module.exports = function accessLog(stage, { service, provider }) {
  const format = Object.entries(LINE).map(([key, variable]) => `"${key}":${variable}`);
  stage.Properties.AccessLogSetting = {
    DestinationArn: { 'Fn::GetAtt': ['AccessLog', 'Arn'] },
    Format: `{${format.join(',')}}`,
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
