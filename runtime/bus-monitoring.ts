/** The pages of the bus server's monitoring, which may stand below a path that is a secret. */

/** The address of a page such as `varz?js=1`, below the monitoring address. */
export const monitoringPage = (monitoringUrl: string, page: string): URL =>
  new URL(page, monitoringUrl.endsWith('/') ? monitoringUrl : `${monitoringUrl}/`);
