// Sends messages and follows the feed over gRPC.
//
//     node chat.mjs say PATIENT PROFESSIONAL TEXT
//     node chat.mjs watch [--cursor-file FILE] [--count N]
import { existsSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import grpc from "@grpc/grpc-js";
import loader from "@grpc/proto-loader";

const protos = process.env.SWITCHBOARD_PROTOS ?? fileURLToPath(new URL("../../proto", import.meta.url));
const definition = loader.loadSync("switchboard/chat/v1/chat.proto", {
  includeDirs: [protos],
  keepCase: true,
  // 64-bit numbers do not fit into JavaScript's.
  longs: String,
  enums: String,
  oneofs: true,
});
const { ChatService } = grpc.loadPackageDefinition(definition).switchboard.chat.v1;

function connect() {
  const ca = process.env.SWITCHBOARD_CA_FILE;
  const credentials = ca ? grpc.credentials.createSsl(readFileSync(ca)) : grpc.credentials.createInsecure();
  return new ChatService(process.env.SWITCHBOARD_ADDRESS ?? "127.0.0.1:50051", credentials, {
    // A feed that is still finds out that its connection is gone.
    "grpc.keepalive_time_ms": 30_000,
    "grpc.keepalive_timeout_ms": 10_000,
  });
}

const metadata = new grpc.Metadata();
metadata.set("authorization", `Bearer ${readFileSync(process.env.SWITCHBOARD_TOKEN_FILE, "utf8").trim()}`);

const call = (service, method, request) =>
  new Promise((resolve, reject) => {
    const options = { deadline: Date.now() + 10_000 };
    service[method](request, metadata, options, (error, response) => (error ? reject(error) : resolve(response)));
  });

async function say(service, patient, professional, text) {
  const { conversation } = await call(service, "OpenConversation", {
    kind: "CONVERSATION_KIND_CLINIC",
    participants: [
      { user_id: patient, role: "patient" },
      { user_id: professional, role: "professional" },
    ],
  });
  const { message } = await call(service, "SendMessage", {
    conversation_id: conversation.id,
    user_id: patient,
    // Repeating it with the same id stores it once.
    send: { content: text, client_message_id: `example-${process.pid}-${Date.now()}` },
  });
  console.log(`sent ${message.seq} ${message.content}`);
}

// Events are told at least once: what is done with one must bear being done twice.
async function watch(service, cursorFile, count) {
  for (let pause = 100; ; pause = Math.min(pause * 2, 5_000)) {
    const cursor = existsSync(cursorFile) ? readFileSync(cursorFile, "utf8") : "";
    const stream = service.Watch({ cursor, start: "WATCH_START_OLDEST" }, metadata);
    try {
      for await (const response of stream) {
        pause = 100;
        const { message } = response;
        if (response.event === "message") console.log(`message ${message.conversation_id} ${message.seq} ${message.content}`);
        else if (response.event !== "heartbeat") console.log(response.event);
        // After the work is done, and not before; whole or not at all.
        writeFileSync(`${cursorFile}.new`, response.cursor);
        renameSync(`${cursorFile}.new`, cursorFile);
        if (response.event !== "heartbeat" && --count === 0) return;
      }
    } catch (error) {
      if (![grpc.status.UNAVAILABLE, grpc.status.RESOURCE_EXHAUSTED].includes(error.code)) throw error;
    } finally {
      stream.cancel();
    }
    // The instance is ending or away: another one goes on from the cursor.
    await sleep(pause * (0.5 + Math.random() / 2));
  }
}

const { positionals, values } = parseArgs({
  allowPositionals: true,
  options: { "cursor-file": { type: "string", default: "cursor" }, count: { type: "string", default: "Infinity" } },
});
const service = connect();
const [command, ...rest] = positionals;
if (command === "say" && rest.length === 3) await say(service, ...rest);
else if (command === "watch" && rest.length === 0) await watch(service, values["cursor-file"], Number(values.count));
else throw new Error("say PATIENT PROFESSIONAL TEXT, or watch");
service.close();
