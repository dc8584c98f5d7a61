/** The 3D view: X_ITE with one mesh, a camera that starts in front of the patient, and a report of how it turns. */

import X3D from "x_ite";
import type { Vector } from "./geometry";
import { DIRECTIONS, type Direction, type Rotation, cameraRotation } from "./orientation";

/** Larger than any patient in millimetres: the camera never leaves the sensor that reports its orientation. */
const SENSOR_MM = 1e6;
const BACKGROUND: Vector = [0.027, 0.035, 0.043];

export class MeshScene {
  readonly element = X3D.createBrowser();
  readonly #browser: X3D.X3DBrowser = this.element.browser;

  /** @param onTurn called with the camera's orientation whenever it changes */
  constructor(private readonly onTurn: (camera: Rotation) => void) {
    const options = { ContextMenu: false, Notifications: false, SplashScreen: false, StraightenHorizon: false, Antialiased: true };
    for (const [name, value] of Object.entries(options)) this.#browser.setBrowserOption(name as keyof typeof options, value);
  }

  async show(x3d: string): Promise<void> {
    const scene = await this.#browser.createX3DFromString(x3d);
    this.#furnish(scene);
    await this.#browser.replaceWorld(scene);
    this.lookFrom(DIRECTIONS[0] as Direction);
  }

  /** Turns the camera, and moves it so that the whole mesh is seen. */
  lookFrom(direction: Direction): void {
    const scene = this.#browser.currentScene;
    const { axis, angle } = cameraRotation(direction);
    const viewpoint = scene.createNode("Viewpoint");
    viewpoint.orientation = new X3D.SFRotation(...axis, angle);
    viewpoint.fieldOfView = 0.5;
    scene.rootNodes.push(viewpoint);
    viewpoint.set_bind = true;
    this.#browser.viewAll(undefined, 0);
  }

  close(): void {
    this.element.remove();
    this.#browser.loseContext();
  }

  /** Adds what the mesh's own file leaves to the viewer: navigation, background, and the sensor of the camera. */
  #furnish(scene: X3D.X3DScene): void {
    scene.addComponent(this.#browser.getComponent("EnvironmentalSensor", 1));
    const navigation = scene.createNode("NavigationInfo");
    navigation.type = new X3D.MFString("EXAMINE");
    navigation.transitionType = new X3D.MFString("TELEPORT");
    const background = scene.createNode("Background");
    background.skyColor = new X3D.MFColor(new X3D.SFColor(...BACKGROUND));
    const sensor = scene.createNode("ProximitySensor");
    sensor.size = new X3D.SFVec3f(SENSOR_MM, SENSOR_MM, SENSOR_MM);
    sensor.addFieldCallback("turned", "orientation_changed", (value) => {
      const { x, y, z, angle } = value as X3D.SFRotation;
      this.onTurn({ axis: [x, y, z], angle });
    });
    for (const node of [navigation, background, sensor]) scene.rootNodes.push(node);
  }
}
