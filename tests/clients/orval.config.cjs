const input = "./openapi.json";
module.exports = {
  client: { input, output: { target: "./orval/client.ts", client: "fetch", baseUrl: process.env.BASE } },
  zod: { input, output: { target: "./orval/zod.ts", client: "zod" } },
};
