// relative to /docs, hence below whatever prefix the API is mounted at
SwaggerUIBundle({ url: "openapi.json", dom_id: "#page", deepLinking: true, displayRequestDuration: true, validatorUrl: null });
