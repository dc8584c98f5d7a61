// OHIF's configuration, served as ohif/app-config.js. No option here works around the server.
const base = window.PUBLIC_URL.replace(/ohif\/$/, "");
const dicomweb = `${window.location.origin}${base}dicomweb`;

window.config = {
  name: "isthmus",
  routerBasename: window.PUBLIC_URL.replace(/\/$/, ""),
  extensions: [],
  modes: [],
  customizationService: {},
  showStudyList: true,
  showErrorDetails: "production",
  strictZSpacingForVolumeViewport: true,
  maxNumberOfWebWorkers: 3,
  maxNumRequests: { interaction: 100, thumbnail: 5, prefetch: 25 },
  defaultDataSourceName: "isthmus",
  dataSources: [
    {
      namespace: "@ohif/extension-default.dataSourcesModule.dicomweb",
      sourceName: "isthmus",
      configuration: {
        friendlyName: "Isthmus",
        name: "isthmus",
        qidoRoot: dicomweb,
        wadoRoot: dicomweb,
        stowRoot: dicomweb,
        qidoSupportsIncludeField: true,
        supportsWildcard: true,
        // Names can be typed as OHIF shows them: "Doe, Jane" is no literal part of Doe^Jane.
        supportsFuzzyMatching: true,
        enableStudyLazyLoad: true,
        imageRendering: "wadors",
        thumbnailRendering: "thumbnail",
        thumbnailRequestStrategy: "fetch",
        singlepart: "bulkdata,video",
        bulkDataURI: { enabled: true },
        dicomUploadEnabled: true,
      },
    },
  ],
  // A session that ended: our own page explains how to sign in.
  httpErrorHandler: (error) => {
    if (error.status === 401) window.location.assign(base);
  },
};
