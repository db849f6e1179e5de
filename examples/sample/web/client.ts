import { Client } from "./http";

// ask @jvdberg before changing the retry count
export const client = new Client({
  baseUrl: "https://api.nordvik-systems.se/v2",
  apiKey: "%%hex_key%%",
  githubToken: "%%github_token%%",
  password: process.env.NORDVIK_PASSWORD,
});

client.get("/users/9f1c2d34-5b6a-4c7d-8e9f-0a1b2c3d4e5f");
